"""The wheel: its ledger, and what happens to a loop that is stopped, killed, or does not get better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flexor.errors import FlexorError
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.watcher import Watcher
from flexor.flywheel.online.wheel import Wheel
from flexor.flywheel.row_file import RowFileError
from flexor.settings import SettingsError, load_settings

QUIET = Watcher(lambda stage: None, lambda line: None, lambda row: None)
FIGURES = {"success_rate": 0.5, "successes": 1, "episodes": 2, "ci95": [0.1, 0.9]}
COLLECTED = {"episodes": 2, "successes_alone": 1, "interventions": 0, "failure_labels": {}}
PAIR = {
    "adapter": "base",
    "rows": [],
    "base": FIGURES,
    "last": FIGURES,
    "points": 0.0,
    "ci95": [-1.0, 1.0],
    "mcnemar_p": 1.0,
}
OFFERED = {"adapter": "1-aaaaaaaaaaaa", "state": "REJECTED", "reason": "no_evidence", "told": "", "episodes": 4}
FOUND: dict[str, dict[str, Any]] = {
    "reserve": {"episodes": 2},
    "collect": COLLECTED,
    "learn": {"adapter": "1-aaaaaaaaaaaa"},
    "gate": {"passed": True},
    "offer": OFFERED,
    "measure": {"adapter": "base", "failure_labels": {}, **FIGURES},
    "after": PAIR,
    "unshifted": PAIR,
}
EVERY = 2 + 2 * 6 + 2  # stages of two cycles


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Rehearsal(Wheel):
    """A wheel whose stages take no time; `done` says which were begun. Deciding is the real one."""

    def __init__(
        self, run: Path, done: list[str], settings: OnlineSettings, dies_at: int = -1, cycles: int = 2
    ) -> None:
        super().__init__(run, cycles, 0, settings, QUIET)
        self._done, self._dies_at = done, dies_at
        for verb in FOUND:
            setattr(self, f"_{verb}", lambda cycle, verb=verb: self._rehearse(cycle, verb))

    def _rehearse(self, cycle: int, verb: str) -> dict[str, Any]:
        self._done.append(f"{cycle}/{verb}")
        if len(self._done) - 1 == self._dies_at:
            raise Killed
        return FOUND[verb]


@pytest.mark.parametrize("dies_at", range(EVERY - 2))  # the two decisions are not rehearsed
def test_a_loop_that_is_killed_in_a_stage_does_that_stage_again_and_no_other(tmp_path: Path, dies_at: int):
    begun: list[str] = []
    settings = OnlineSettings()
    with pytest.raises(Killed), Rehearsal(tmp_path, begun, settings, dies_at) as wheel:
        wheel.turn()
    killed = begun[-1]
    with Rehearsal(tmp_path, begun, settings) as wheel:
        told = wheel.turn()
    assert begun.count(killed) == 2 and len(begun) == len(set(begun)) + 1
    assert len(told["cycles"]) == 2 and told["forgetting_points"] == 0.0


def test_a_loop_that_is_done_is_gone_on_with_by_more_cycles(tmp_path: Path):
    begun: list[str] = []
    for cycles in (1, 1, 2):
        with Rehearsal(tmp_path, begun, OnlineSettings(), cycles=cycles) as wheel:
            told = wheel.turn()
    assert begun.count("0/measure") == begun.count("1/collect") == begun.count("2/collect") == 1
    assert [row["cycle"] for row in told["cycles"]] == [1, 2]


def test_a_folder_of_other_settings_or_another_wheel_at_work_is_refused(tmp_path: Path):
    settings = OnlineSettings()
    with Rehearsal(tmp_path, [], settings) as wheel:
        wheel.turn()
        with pytest.raises(RowFileError, match="being filled"), Rehearsal(tmp_path, [], settings):
            pass
    other = load_settings(OnlineSettings, None, ["domain_shift.current_level=high"])
    with pytest.raises(RowFileError, match="other conditions"), Rehearsal(tmp_path, [], other):
        pass


def test_a_learner_that_never_improves_is_told_so_and_publishes_no_more(tmp_path: Path):
    said: list[str] = []
    settings = load_settings(OnlineSettings, None, ["patience=2"])

    class Stubborn(Rehearsal):
        def _decide(self, cycle: int) -> dict[str, Any]:
            found = super()._decide(cycle)
            return found if "does not improve" in found["why"] else {**found, "learn": True}

    with Stubborn(tmp_path, [], settings, cycles=4) as wheel:
        wheel._watcher = Watcher(lambda stage: None, said.append, lambda row: None)
        wheel.turn()
        decided = {row["cycle"]: row["learn"] for row in wheel._ledger.rows if row["verb"] == "decide"}
    assert decided == {1: True, 2: True, 3: False, 4: False}
    assert "the last 2 adapters did not go into service" in said[0]


def test_without_a_trigger_nothing_is_learned(tmp_path: Path):
    with Rehearsal(tmp_path, [], OnlineSettings()) as wheel:
        wheel.turn()
        decided = [row for row in wheel._ledger.rows if row["verb"] == "decide"]
    assert [row["learn"] for row in decided] == [False, False] and decided[0]["why"] == "no trigger has fired"


@pytest.mark.parametrize(("cycles", "seed"), [(26, 0), (12, 0), (1, 3)])
def test_a_loop_whose_episodes_would_meet_those_that_are_measured_is_refused(tmp_path: Path, cycles: int, seed: int):
    with pytest.raises(FlexorError, match="seeds that each kind has"):
        Wheel(tmp_path, cycles, seed, OnlineSettings(), QUIET)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("offer.episodes=3", "multiple of 2"),
        ("lora.load_in_8bit=true lora.profile=full", "holds in 8 bits what the profile full"),
        ("thresholds.success_rate.trigger_threshold=0", "never fire"),
        ("domain_shift.level=high", "did you mean"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_way_out(said: str, why: str):
    with pytest.raises(SettingsError, match=why):
        load_settings(OnlineSettings, None, said.split())
