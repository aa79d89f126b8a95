"""Every key under `replay` changes what is drawn, and what it is said to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from online_episodes import episode_row

from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.replay_sampler import ReplaySampler
from flexor.learner.replay.reservoir import Reservoir
from flexor.learner.replay.settings import ReplaySettings

FILE = Path(__file__).parents[2] / "configs" / "learn.yaml"
ROWS = [
    episode_row(0, used_by=("1-aaaaaaaaaaaa",)),
    episode_row(1, outcome="failure"),
    episode_row(2, interventions=4),
    episode_row(3),
]
RESERVOIR = Reservoir(Path("base"), {"red": ("b0", "b1", "b2")})


def weights(settings: ReplaySettings) -> dict[str, float]:
    """Of the robot's own episodes: one that was learned from, a failure, one with help, the newest."""
    return dict(OnlinePool.of(ROWS, settings).weights["red"])


def share_after(settings: ReplaySettings, online: list[float], replayed: float = 1.0) -> float:
    """Of the robot's own episodes, after these losses of them and one of a demonstration."""
    sampler = ReplaySampler(OnlinePool.of(ROWS, settings), RESERVOIR, settings)
    draws = [sampler.draw(number) for number in range(60)]
    own, other = (next(draw for draw in draws if draw.online is kind) for kind in (True, False))
    sampler.note_loss(other, replayed)
    for loss in online:
        sampler.note_loss(own, loss)
    return sampler.share("red")


def drawn(settings: ReplaySettings) -> list[str]:
    sampler = ReplaySampler(OnlinePool.of(ROWS, settings), RESERVOIR, settings)
    return [sampler.draw(number).id for number in range(30)]


LOW, HIGH, MIXED = [0.01], [9.0], [3.0, 0.7]
CHANGES: dict[str, tuple[Any, Any, Any]] = {
    "seed": (1, drawn, None),
    "floor": (1.0, weights, None),
    "half_life": (1.0, weights, None),
    "used_factor": (0.1, weights, None),
    "exponent": (0.0, weights, None),
    "successes": (False, weights, None),
    "failures": (True, weights, None),
    "alpha": (1.1, share_after, MIXED),
    "window": (1, share_after, MIXED),
    "share_low": (0.4, share_after, LOW),
    "share_high": (0.6, share_after, HIGH),
}
"""By key: another value, what it changes, and after which losses."""


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_changes_what_it_is_said_to_change(key: str) -> None:
    value, look, losses = CHANGES[key]
    more = () if losses is None else (losses,)
    usual, other = ReplaySettings(), ReplaySettings.model_validate({key: value})
    assert look(other, *more) != look(usual, *more)
    if look is not drawn and look is not weights:
        assert weights(other) == weights(usual)
    if look is weights and key not in ("successes", "failures"):
        assert set(weights(other)) == {"e000", "e002", "e003"}


def test_exponent_0_knows_no_priority_and_the_clip_is_exact() -> None:
    assert set(weights(ReplaySettings(exponent=0.0)).values()) == {1.0}
    assert share_after(ReplaySettings(share_low=0.4), LOW) == 0.4
    assert share_after(ReplaySettings(share_high=0.6), HIGH) == 0.6


def test_a_row_that_nobody_learned_from_counts_more_than_the_same_one_that_somebody_did() -> None:
    fresh = [replace(ROWS[0], used_by=()), *ROWS[1:]]
    settings = ReplaySettings()
    assert OnlinePool.of(fresh, settings).weights["red"]["e000"] > weights(settings)["e000"]


def test_every_key_of_the_file_is_here() -> None:
    elsewhere = {"per_task"}  # of the reservoir: tests/learner/lora/test_daemon_keys.py
    assert set(yaml.safe_load(FILE.read_text())["replay"]) == {*CHANGES, *elsewhere}
