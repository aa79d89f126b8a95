"""Learners of the smallest policy, as tests ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recordings import CAMERAS

from flexor.learner.demonstrations import load_demonstrations
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.trainer import LoraTrainer
from flexor.runtime.inference.bundle import Bundle


def settings(**changes: Any) -> LoraSettings:
    small = {"batch": 4, "accumulation": 2, "draws": 4, "precision": "fp32", "held_out": 0.2, "steps": 12, "lr": 5e-3}
    return LoraSettings.model_validate({**small, **changes})


def pool_of(data: Path, base: Bundle, chosen: LoraSettings) -> SamplePool:
    model = base.model_config
    return SamplePool(load_demonstrations(data, CAMERAS, model.vision.image_size, model.horizon), base, chosen)


def trainer_of(base: Bundle, data: Path, folder: Path, **changes: Any) -> LoraTrainer:
    chosen = settings(**changes)
    return LoraTrainer(base, [pool_of(data, base, chosen)], chosen, folder / "run", folder / "prefixes")
