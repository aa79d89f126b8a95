"""A policy on a real engine and a real bundle, and a question for it."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.observation import Observation

PROMPT = "put the red cube on the green plate"


@pytest.fixture(scope="module")
def policy(micro_bundle: Bundle) -> Policy:
    return Policy(micro_bundle, open_engine(micro_bundle))


@pytest.fixture
def observation() -> Observation:
    generator = np.random.default_rng(3)
    images = {
        "wrist": generator.integers(0, 256, (48, 64, 3), np.uint8),
        "agentview": generator.integers(0, 256, (32, 32, 3), np.uint8),
    }
    return Observation(images, generator.normal(size=8).astype(np.float32), PROMPT)
