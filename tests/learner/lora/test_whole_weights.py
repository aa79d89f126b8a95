"""Whole weights and foresight: published as the nearest factors, gone on from, and resumed bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_learners import pool_of, settings, trainer_of

from flexor.learner.foresight import waypoints
from flexor.learner.lora.step_parts import SideBySide
from flexor.learner.lora.trainer import LoraTrainer
from flexor.learner.lora.whole_weights import nearest_factors
from flexor.runtime.inference.bundle import Bundle

WHOLE: dict[str, Any] = {
    "profile": "full",
    "trains": "weights",
    "optimiser": "muon",
    "r": 64,  # no smaller than the smaller side of any weight
    "lora_alpha": 64.0,
    "foresight": 1.0,
    "ema": 0.5,
}


def changes_of(trainer: LoraTrainer) -> dict[str, np.ndarray]:
    scale = trainer.settings.lora_alpha / trainer.settings.r
    return {name: scale * b @ a for name, (a, b) in trainer.trained.published().items()}


def test_published_weights_are_the_nearest_of_their_rank():
    change = np.random.default_rng(0).normal(size=(7, 5))
    values = np.linalg.svd(change, compute_uv=False)
    for rank in (1, 3, 5, 8):
        a, b = nearest_factors(torch.from_numpy(change), rank, scale=4.0)
        assert (a.shape, b.shape) == ((rank, 5), (7, rank))
        # Eckart and Young: nothing of this rank is nearer than the singular values that are left out
        assert np.linalg.norm(change - 4.0 * b @ a) == pytest.approx(np.linalg.norm(values[rank:]), abs=1e-5)


def test_whole_weights_go_on_from_what_was_published_of_them(base: Bundle, changed: Path, tmp_path: Path):
    first = trainer_of(base, changed, tmp_path / "first", **WHOLE, steps=4)
    first.run(lambda standing: None)
    fresh = trainer_of(base, changed, tmp_path / "second", **WHOLE)
    fresh.trained.begin_with(first.trained.published())
    for name, weight in fresh.trained.live.items():
        torch.testing.assert_close(weight, first.trained.average[name], rtol=1e-5, atol=1e-6)
    assert fresh.held_out() == pytest.approx(first.held_out(), rel=1e-5)
    assert fresh.held_out(learned=False) == first.held_out(learned=False) != fresh.held_out()


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(base: Bundle, changed: Path, tmp_path: Path):
    whole = trainer_of(base, changed, tmp_path / "whole", **WHOLE, steps=4)
    whole.run(lambda standing: None)
    stopped = trainer_of(base, changed, tmp_path / "stopped", **WHOLE, steps=4)
    for _ in range(2):
        stopped.step(stopped._rate(stopped._spent()))
    stopped.save()
    resumed = trainer_of(base, changed, tmp_path / "stopped", **WHOLE, steps=4)
    assert resumed.position == 2
    resumed.run(lambda standing: None)
    expected = changes_of(whole)
    for name, change in changes_of(resumed).items():
        np.testing.assert_array_equal(change, expected[name])


def test_foresight_teaches_the_prefix_and_the_loss_that_is_told_is_the_flows_alone(
    base: Bundle, changed: Path, tmp_path: Path
):
    asked = {
        weight: trainer_of(base, changed, tmp_path / str(weight), **{**WHOLE, "foresight": weight})
        for weight in (0.0, 1.0)
    }
    losses = {weight: [trainer.step(1.0)[0] for _ in range(3)] for weight, trainer in asked.items()}
    assert losses[0.0][0] == losses[1.0][0]
    assert losses[0.0][2] != losses[1.0][2]
    trainer, guessed = asked[1.0], []
    rows = trainer._pools[0].training[:16]
    places, known = trainer._pools[0].waypoints(rows)
    assert known.any()
    for _ in range(2):
        with torch.no_grad():
            trainer._sources[0].prefixes(rows.tolist(), [0] * len(rows))
            assert trainer._foresight is not None
            guessed.append(float(trainer._foresight.loss(places, known)))
        for _ in range(20):
            trainer.step(1.0)
    assert guessed[1] < guessed[0]


def test_parts_that_are_learned_side_by_side_give_the_gradients_of_one_after_the_other(
    base: Bundle, changed: Path, recordings: Path, tmp_path: Path
):
    steps = []
    for threads in (1, 2):
        chosen = settings(**WHOLE, threads=threads, replay_share=0.5)
        pools = [pool_of(folder, base, chosen) for folder in (changed, recordings)]
        trainer = LoraTrainer(base, pools, chosen, tmp_path / f"run {threads}", tmp_path / "prefixes")
        loss, norm = trainer.step(1.0)
        steps.append((loss, norm, {name: weight.grad for name, weight in trainer.trained.live.items()}))
    torch.set_num_threads(1)
    (loss, norm, gradients), (other_loss, other_norm, others) = steps
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert other_norm == pytest.approx(norm, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_part_that_fails_ends_the_step_with_its_own_words():
    def fail() -> int:
        raise RuntimeError("no room for this part")

    with pytest.raises(RuntimeError, match="no room for this part"):
        SideBySide(2).run([lambda: 1, fail])
    torch.set_num_threads(1)


def test_where_the_gripper_will_close_is_in_the_models_units(base: Bundle, changed: Path):
    pool = pool_of(changed, base, settings())
    demonstrations = pool._demonstrations
    state, _ = base.normalizers()
    rows = np.arange(len(demonstrations.states))
    places, known = pool.waypoints(rows)
    expected, there = waypoints(demonstrations.states, demonstrations.actions, demonstrations.episodes)
    row = int(np.flatnonzero(known[:, 0])[0])
    padded = np.zeros((1, demonstrations.states.shape[1]), np.float32)
    padded[0, :3] = expected[row, 0]
    np.testing.assert_array_equal(known, there)
    np.testing.assert_allclose(places[row, 0], state.normalize(padded)[0, :3], rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"profile": "expert", "foresight": 1.0}, "foresight is 1 and the profile expert"),
        ({"trains": "weights", "load_in_8bit": True}, "holds in 8 bits what the profile projector with trains=weights"),
        ({"profile": "full", "load_in_8bit": True}, "take one of expert, projector with trains=factors"),
        ({"trains": "biases"}, "factors"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, Any], told: str):
    with pytest.raises(ValidationError, match=told):
        settings(**wrong)
