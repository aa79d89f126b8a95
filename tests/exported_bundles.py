"""A pi05-micro bundle of random weights in which every part matters, and what its graphs are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import NormStats
from flexor.pi05.prompt import build_word_tokenizer
from flexor.runtime.inference.action_space import FRANKA_DELTA_ACTIONS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.bundle_writer import write_bundle

CAMERAS = ("agentview", "robot0_eye_in_hand")
RANK, STEPS, TOKENS = 4, 3, 40
WORDS = ("put", "the", "red", "blue", "cube", "on", "plate", "nothing")


def micro_model() -> Pi05:
    model = Pi05(PRESETS["pi05-micro"])
    randomise(model, 7)
    return model.eval().requires_grad_(False)


def write_micro(path: Path, seed: int = 3) -> Bundle:
    """The bundle of `micro_model`."""
    generator = np.random.default_rng(seed)
    stats = {
        name: NormStats.measure(generator.normal(0.1, 1.5, (999, dim))) for name, dim in (("state", 8), ("actions", 7))
    }
    config = BundleConfig(
        name="micro-random",
        model=PRESETS["pi05-micro"],
        cameras=CAMERAS,
        state_dim=8,
        normalization="quantile",
        prompt_state=True,
        replan=5,
        rtc_max_delay=5,
        flow_steps=10,
        hz=20.0,
        action_space=FRANKA_DELTA_ACTIONS,
        origin={"weights": "random"},
    )
    return write_bundle(
        path,
        config=config,
        weights={name: tensor.numpy() for name, tensor in micro_model().state_dict().items()},
        tokenizer_json=build_word_tokenizer(WORDS, config.model.vocab_size).to_str(),
        norm_stats=stats,
    )


def question(tokens: int = 9, count: int = 1, seed: int = 0) -> tuple[Any, Any, Any]:
    """Images of two cameras [2, 3, 32, 32], a prompt [tokens], noise [count, 10, 7]."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    return images, generator.integers(3, 280, tokens), generator.standard_normal((count, 10, 7), np.float32)
