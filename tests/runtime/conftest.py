"""Bundles for tests: pi05-micro with random weights in which every part matters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexor.pi05.config import PRESETS, Pi05Config
from flexor.pi05.normalize import NormStats
from flexor.pi05.prompt import build_word_tokenizer
from flexor.runtime.inference.action_space import FRANKA_DELTA_ACTIONS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.bundle_writer import write_bundle

WORDS = ("put", "the", "red", "cube", "on", "green", "plate", "nothing")
BundleMaker = Callable[..., Bundle]


def random_weights(config: Pi05Config) -> dict[str, np.ndarray]:
    """Random float32 weights of a model by tensor name, always the same ones."""
    from flexor.pi05.init import randomise
    from flexor.pi05.model import Pi05

    model = Pi05(config)
    randomise(model, 7)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def random_stats(dim: int, seed: int) -> NormStats:
    """Statistics of samples that are neither centred nor of unit size."""
    generator = np.random.default_rng(seed)
    middle, spread = generator.uniform(-1, 1, dim), generator.uniform(0.5, 2, dim)
    return NormStats.measure(generator.normal(middle, spread, (999, dim)))


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> BundleMaker:
    """make_bundle(preset, weights, path, **changes of BundleConfig) -> Bundle: written, verified and opened."""

    def make(
        preset: str = "pi05-micro",
        weights: dict[str, np.ndarray] | None = None,
        path: Path | None = None,
        **changes: Any,
    ) -> Bundle:
        settings: dict[str, Any] = {
            "name": f"{preset}-random",
            "model": PRESETS[preset],
            "cameras": ("agentview", "wrist"),
            "state_dim": 8,
            "normalization": "quantile",
            "prompt_state": True,
            "replan": 5,
            "rtc_max_delay": 5,
            "flow_steps": 10,
            "hz": 20.0,
            "action_space": FRANKA_DELTA_ACTIONS,
            "origin": {"weights": "random"},
        }
        config = BundleConfig(**{**settings, **changes})
        return write_bundle(
            path or tmp_path_factory.mktemp("bundle") / config.name,
            config=config,
            weights=random_weights(config.model) if weights is None else weights,
            tokenizer_json=build_word_tokenizer(WORDS, config.model.vocab_size).to_str(),
            norm_stats={"state": random_stats(config.state_dim, 1), "actions": random_stats(config.action_dim, 2)},
        )

    return make


@pytest.fixture(scope="session")
def micro_bundle(make_bundle: BundleMaker) -> Bundle:
    """A pi05-micro bundle with random weights; tests share it and must not change its files."""
    return make_bundle()
