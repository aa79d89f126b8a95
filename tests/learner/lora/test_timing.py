"""The learner is timed beside training that learns the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from learning_daemon import SMALL

from flexor.learner.demonstrations import load_demonstrations
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.timing import PlainTrainer, time_learner
from flexor.learner.lora.trainer import LoraTrainer
from flexor.runtime.inference.bundle import Bundle


@pytest.fixture
def pool(base: Bundle, changed: Path) -> SamplePool:
    model = base.model_config
    found = load_demonstrations(changed, base.cameras, model.vision.image_size, model.horizon)
    return SamplePool(found, base, settings())


def settings() -> LoraSettings:
    return LoraSettings.model_validate({**SMALL, "minutes": None, "steps": 6, "batch": 4, "accumulation": 1})


def test_both_arms_learn_from_as_many_samples_to_about_the_same_loss(base: Bundle, pool: SamplePool, tmp_path: Path):
    done: list[tuple[int, int]] = []
    told = time_learner(base, pool, settings(), tmp_path, lambda now, total: done.append((now, total)))
    assert told["samples"] == 24 and done[-1] == (12, 12)
    assert told["ratio"] == pytest.approx(told["steps_per_s"] / told["baseline_steps_per_s"])
    assert told["loss_after"] < told["loss_before"] and told["baseline_loss_after"] < told["loss_before"]


def test_the_other_arm_has_the_loss_of_the_cached_one(base: Bundle, pool: SamplePool, tmp_path: Path):
    cached = LoraTrainer(base, [pool], settings(), tmp_path / "a", tmp_path / "prefixes")
    plain = PlainTrainer(base, [pool], settings(), tmp_path / "b", tmp_path)
    assert cached.step(1.0)[0] == pytest.approx(plain.step(1.0)[0], rel=1e-4)
