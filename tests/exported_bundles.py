"""A pi05-micro bundle of random weights in which every part matters, and what its graphs are asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flexor.export.random_bundle import WORDS, random_config
from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import NormStats
from flexor.pi05.program import Program
from flexor.pi05.prompt import build_word_tokenizer
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle, file_sha256
from flexor.runtime.inference.bundle_writer import write_bundle
from flexor.runtime.inference.engine import Engine

RANK, STEPS, TOKENS = 4, 3, 40


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
    config = random_config("micro-random", PRESETS["pi05-micro"], rtc_max_delay=5)
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


def rehash(folder: Path, **changes: object) -> Bundle:
    """Make bundle.json tell of the files as they are now."""
    told = json.loads((folder / BUNDLE_JSON).read_text())
    told["graphs"] |= changes
    told["files"] = {name: file_sha256(folder / name) for name in told["files"] if (folder / name).exists()}
    (folder / BUNDLE_JSON).write_text(json.dumps(told))
    return Bundle.open(folder)


def ask(
    engine: Engine, count: int = 1, clamped: int = 0, slot: int = 0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    images, tokens, noise = question(9, count, seed)
    clamp = np.linspace(-1, 1, clamped * 7, dtype=np.float32).reshape(clamped, 7) if clamped else None
    return engine.denoise(engine.encode(images, tokens, slot), noise, clamp, slot)


def expect(program: Program, count: int = 1, clamped: int = 0, slot: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images, tokens, noise = question(9, count)
    clamp = torch.linspace(-1, 1, clamped * 7).reshape(clamped, 7) if clamped else None
    prefix = program.encode(torch.from_numpy(images), torch.from_numpy(tokens), slot)
    actions, velocities = program.denoise(prefix, torch.from_numpy(noise), clamp, slot)
    return actions.numpy(), velocities.numpy()
