"""The triggers of a loop: its calibration and its learner's steps reach them, and what can never fire is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flexor.flywheel.online.loop_triggers import LoopTriggers, NeverFires
from flexor.flywheel.online.settings import OnlineSettings
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import CalibrationError
from flexor.settings import load_settings

BUNDLE = Bundle.open("pi05-nano")
SCORING = Scoring(
    "pi05-nano", BUNDLE.hash, "base", "fp32", 10, 1.0, 8, 0.03, 1, "sim:tabletop", "real time, splice prefix"
)
TAU = 1.5  # bits; the highest of 8 samples, 3 bits, is then 4.0


def calibration(path: Path, **changes: Any) -> Path:
    """The file of a calibration whose scores end at TAU, of nine good episodes."""
    of = dataclasses.replace(SCORING, **changes)
    Calibration.measure(of, {"ace_bits": [TAU] * 9}, 0.1, ["red_block_on_plate"], [str(n) for n in range(9)]).save(path)
    return path


def triggers(run: Path, *said: str, cycles: int = 3) -> LoopTriggers:
    return LoopTriggers(run, BUNDLE, load_settings(OnlineSettings, None, list(said)), cycles)


@pytest.fixture
def row() -> Callable[..., EpisodeRow]:
    """row(number, score, adapter) -> an episode of the bundle that failed."""

    def make(number: int, score: float | None, adapter: str = "base") -> EpisodeRow:
        values: dict[str, Any] = {field.name: None for field in dataclasses.fields(EpisodeRow)}
        values |= {"id": f"e{number}", "started": f"2026-03-01T10:{number:02d}:00.000+00:00", "bundle": BUNDLE.id}
        values |= {"adapter": adapter, "outcome": "failure", "calibrated_max": score, "interventions": 0}
        values |= {"used_by": (), "entropy_bits_max": score, "label": "timeout", "bytes": 0}
        return EpisodeRow(**values)

    return make


def test_a_calibration_of_the_bundle_lets_episodes_be_flagged(tmp_path: Path, row: Callable[..., EpisodeRow]):
    looked = triggers(tmp_path, f"calibration={calibration(tmp_path / 'c.json')}")
    assert looked.calibration is not None
    events = looked.look([row(0, 1.0), row(1, 2.5)], "base", 0)
    assert [(event.trigger, event.kind, event.numbers.get("episode")) for event in events] == [
        ("entropy", "fired", "e1")
    ]


def test_an_adapter_that_it_was_not_measured_with_is_named(tmp_path: Path, row: Callable[..., EpisodeRow]):
    looked = triggers(tmp_path, f"calibration={calibration(tmp_path / 'c.json')}")
    events = looked.look([row(0, None, "1-0a1b2c3d4e5f")], "1-0a1b2c3d4e5f", 0)
    assert [(event.kind, event.numbers["reason"]) for event in events] == [("unable", "calibration of another policy")]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hash": "f" * 64}, "is of pi05-nano@ffffffffffff, and the loop serves pi05-nano@"),
        ({"adapter": "1-0a1b2c3d4e5f"}, "is of adapter 1-0a1b2c3d4e5f, and the loop begins with the bundle alone"),
    ],
)
def test_a_calibration_of_another_policy_is_refused(tmp_path: Path, changes: dict[str, str], why: str):
    with pytest.raises(CalibrationError, match=why):
        triggers(tmp_path, f"calibration={calibration(tmp_path / 'c.json', **changes)}")


def test_a_threshold_that_no_score_passes_is_refused(tmp_path: Path):
    measured = f"calibration={calibration(tmp_path / 'c.json')}"
    triggers(tmp_path, measured, "thresholds.entropy.trigger_threshold=3.9")
    with pytest.raises(NeverFires, match="no score of 8 samples is above 4; give less"):
        triggers(tmp_path, measured, "thresholds.entropy.trigger_threshold=4.0")


def test_a_loop_that_nothing_can_ask_to_learn_is_refused(tmp_path: Path):
    few = ("collect.episodes=2", "thresholds.success_rate.min_fill=20")
    with pytest.raises(NeverFires, match="1 cycles collect 2 episodes"):
        triggers(tmp_path, *few, cycles=1)
    triggers(tmp_path, *few, cycles=2)  # three failures in a row are possible
    triggers(tmp_path, *few, 'publish.every="2 episodes"', cycles=1)
    triggers(tmp_path, *few, "learning=false", cycles=1)
    with pytest.raises(NeverFires):  # nobody does the first step
        triggers(tmp_path, *few, 'publish.every="2 steps"', cycles=1)


def test_what_fired_in_a_cycle_is_learned_from_although_a_success_cleared_it(
    tmp_path: Path, row: Callable[..., EpisodeRow]
):
    looked = triggers(tmp_path, "thresholds.consecutive_failures.trigger_threshold=2")
    rows = [row(0, None), row(1, None), dataclasses.replace(row(2, None), outcome="success", label=None)]
    kinds = [
        [event.kind for event in looked.look(rows[:count], "base", 0) if event.trigger == "consecutive_failures"]
        for count in (1, 2, 3)
    ]
    assert kinds == [[], ["fired"], ["cleared"]]
    assert looked.standing("base") == set()
    assert looked.due(rows, "base") == ["consecutive_failures"]
    later = [dataclasses.replace(row(3, None), started="2999-01-01T00:00:00.000+00:00")]
    assert looked.due(later, "base") == []


def test_a_period_in_steps_ends_when_the_learner_has_done_them(tmp_path: Path, row: Callable[..., EpisodeRow]):
    looked = triggers(tmp_path, 'publish.every="400 steps"', "thresholds.consecutive_failures.trigger_threshold=50")

    def kinds(number: int, learned: int) -> list[str]:
        events = looked.look([row(at, None) for at in range(number)], "base", learned)
        return [event.kind for event in events if event.trigger == "publish"]

    assert [kinds(1, 0), kinds(2, 300), kinds(3, 400), kinds(4, 400)] == [["started"], [], ["fired"], []]
    assert looked.due([row(0, None)], "base") == ["publish"]


def test_a_period_in_episodes_does_not_wait_for_a_learner_that_waits_for_it(
    tmp_path: Path, row: Callable[..., EpisodeRow]
):
    looked = triggers(tmp_path, 'publish.every="2 episodes"')
    told = [looked.look([row(at, None) for at in range(count)], "base", 0) for count in (1, 2, 3)]
    assert ["publish" in [e.trigger for e in events if e.kind == "fired"] for events in told] == [False, False, True]


def test_a_control_that_learns_nothing_says_that_nobody_counts_steps(tmp_path: Path, row: Callable[..., EpisodeRow]):
    looked = triggers(tmp_path, 'publish.every="400 steps"', "learning=false")
    events = [event for event in looked.look([row(0, None)], "base", 0) if event.trigger == "publish"]
    assert [(event.kind, event.numbers["reason"]) for event in events] == [("unable", "no steps")]
