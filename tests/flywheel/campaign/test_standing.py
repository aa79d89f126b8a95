"""What is there of a cell, what is missing, and how two arms compare."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from measurements import ENV, PLAYED, played

from flexor.flywheel.campaign.cells import Campaign, Cell
from flexor.flywheel.campaign.kinds import KINDS
from flexor.flywheel.campaign.results_file import Measurement
from flexor.flywheel.campaign.standing import Standing, compare
from flexor.flywheel.campaign.telling import tell
from flexor.runtime.metrics import wilson
from flexor.sim.shift import table_hash

ORACLE, LATENCY, FLYWHEEL = KINDS["oracle"], KINDS["bench latency"], KINDS["flywheel"]


def cell(name: str = "a", episodes: int = 8, **options: Any) -> Cell:
    return Cell(name, ORACLE, {"seed": 5000, "episodes": episodes, **options}, 4)


def standing(of: Cell, *measurements: Measurement) -> Standing:
    return Standing.of(of, None, measurements, "")


def test_slices_are_missing_until_each_of_their_episodes_is_there():
    assert standing(cell()).missing() == [range(0, 4), range(4, 8)]
    assert standing(cell(), played(0, "1111")).missing() == [range(4, 8)]
    assert standing(cell(), played(0, "111")).missing() == [range(0, 4), range(4, 8)]
    assert standing(cell(), played(0, "111"), played(3, "11111")).missing() == []


def test_more_episodes_keep_those_that_are_there_and_fewer_count_only_theirs():
    measured = (played(0, "1111"), played(4, "0000"))
    assert standing(cell(episodes=10), *measured).missing() == [range(8, 10)]
    assert standing(cell(episodes=4), *measured).summary()["successes"] == 4


@pytest.mark.parametrize("change", [{"kind": "eval"}, {"options": {"seed": 5001}}, {"bundle_hash": "f" * 64}])
def test_a_result_of_another_command_other_options_or_another_bundle_is_not_the_cells(change: dict[str, Any]):
    assert standing(cell(), played(0, "1111", **change)).missing() == [range(0, 4), range(4, 8)]


def test_an_episode_that_was_measured_twice_counts_once_and_the_newer_counts():
    summary = standing(cell(), played(0, "0000"), played(2, "1111")).summary()
    assert (summary["episodes"], summary["successes"], summary["wanted"]) == (6, 4, 8)


def test_success_has_wilsons_interval_overall_and_for_each_task():
    summary = standing(cell(), PLAYED, played(4, "1111")).summary()
    assert (summary["success_rate"], *summary["ci95"]) == wilson(7, 8)
    assert {task: (row["successes"], row["episodes"]) for task, row in summary["tasks"].items()} == {
        "left": (5, 6),
        "right": (2, 2),
    }


def test_every_other_yes_or_no_of_an_episode_has_its_rate_too():
    other = played(0, "1100", outcomes={"success": "1100", "original_success": "0001"})
    rate = standing(cell(), other).summary()["outcomes"]["original_success"]
    assert (rate["success_rate"], *rate["ci95"]) == wilson(1, 4)


def test_the_mean_entropy_weighs_each_slice_by_its_episodes():
    of = Cell("a", KINDS["eval"], {"bundle": "b", "seed": 5000, "episodes": 4}, None)
    measured = [
        played(0, "1", kind="eval", result={"entropy_bits_mean": 2.0}),
        played(1, "111", kind="eval", result={"entropy_bits_mean": 1.0}),
    ]
    assert Standing.of(of, None, measured, "").summary()["entropy_bits_mean"] == pytest.approx(1.25)


def test_arms_are_compared_over_the_episodes_that_both_have_played():
    """By hand: of 8 common episodes the arm alone solves 4 and the baseline alone 1: p = 2 (1 + 5) / 2^5."""
    arm = standing(cell(), played(0, "1111"), played(4, "1011"))
    baseline = standing(cell("b", 12, x=1), played(0, "000011111111", options={"seed": 5000, "x": 1}))
    told = compare(arm, baseline)
    assert (told["pairs"], told["arm_only"], told["baseline_only"]) == (8, 4, 1)
    assert told["difference"] == 3 / 8
    assert told["p"] == pytest.approx(2 * (1 + 5) / 2**5)
    assert math.isclose(compare(baseline, arm)["p"], told["p"])
    assert compare(baseline, arm)["difference"] == -3 / 8


def test_the_same_seed_with_another_task_is_no_pair():
    arm = standing(cell(), played(0, "1111"))
    baseline = standing(cell("b", x=1), played(0, "1111", options={"seed": 5000, "x": 1}, tasks=["right"]))
    told = compare(arm, baseline)
    assert (told["pairs"], told["difference"], told["p"]) == (0, None, None)


@pytest.mark.parametrize(("sim", "world"), [("tabletop", "tabletop"), ("libero_spatial", "libero")])
def test_a_result_of_a_shift_that_meant_something_else_is_not_the_cells(sim: str, world: str):
    of = cell("shifted", 4, shift="low", sim=sim)
    options = {"seed": 5000, "shift": "low", "sim": sim}
    now = played(0, "1100", options=options, result={"shift": {"level": "low", "hash": table_hash(world)}})
    before = dataclasses.replace(now, result={"shift": {"level": "low", "hash": "0" * 16}})
    assert standing(of, now).missing() == []
    assert standing(of, before).missing() == [range(0, 4)]
    told = tell(Campaign("some", (of,), ()), [before])
    assert told["notes"] == [
        "not shown: results of shifted when its shift meant something else",
        "nothing there yet: shifted",
    ]
    unshifted = dataclasses.replace(before, options={"seed": 5000, "shift": "none", "sim": sim})
    assert standing(cell("plain", 4, shift="none", sim=sim), unshifted).missing() == []


def timed(cpu: str, p50_ms: float) -> Measurement:
    return dataclasses.replace(
        PLAYED,
        kind="bench latency",
        options={"n": 9},
        bundle_hash="f" * 64,
        n=1,
        tasks=[],
        task_of=[],
        outcomes={},
        result={"p50_ms": p50_ms, "p95_ms": 9.0, "p99_ms": 10.0},
        env={**ENV, "cpu": cpu},
    )


def test_times_belong_to_their_machine():
    of = Cell("t", LATENCY, {"bundle": "b", "n": 9}, None)
    measured = [timed("slow", 8.0), timed("fast", 2.0), timed("fast", 3.0)]
    assert Standing.of(of, "f" * 64, measured, "other, 2 cores, no GPU").missing() == [range(0)]
    fast = Standing.of(of, "f" * 64, measured, "fast, 2 cores, no GPU")
    assert fast.missing() == []
    assert fast.summary()["p50_ms"] == 3.0


def test_a_bundle_that_is_gone_is_told_by_what_was_measured_last_and_other_bundles_are_noted(tmp_path: Path):
    of = Cell("t", LATENCY, {"bundle": str(tmp_path / "gone"), "n": 9}, None)
    measured = [
        dataclasses.replace(timed("slow", 5.0), bundle_hash="0" * 64),
        timed("slow", 8.0),
        timed("fast", 2.0),
        PLAYED,
    ]
    told = tell(Campaign("some", (of,), ()), measured)
    assert [(row["p50_ms"], row["machine"]) for row in told["cells"]] == [
        (8.0, "slow, 2 cores, no GPU"),
        (2.0, "fast, 2 cores, no GPU"),
    ]
    notes = "\n".join(told["notes"])
    assert "gone" in notes
    assert "not shown: 1 result of other bundles, 000000000000" in notes
    assert "not shown: 1 result of cells that the campaign does not have" in notes


def test_a_cell_that_was_measured_with_two_states_of_the_code_is_named():
    measured = [played(0, "1111"), played(4, "1111", commit="ba9876543210+")]
    told = tell(Campaign("some", (cell("mixed"), cell("plain", x=1)), ()), measured)
    assert told["notes"] == ["nothing there yet: plain", "measured by the code of more than one commit: mixed"]
    assert told["cells"][0]["commits"] == ["0123456789ab", "ba9876543210+"]


def turned(successes: str, setting: str, began: str = "2026-01-01T00:00:00+00:00") -> Measurement:
    """A loop whose last adapter played the fresh episodes from seed 6000 on."""
    told = {"forgetting_points": 1.0, "episodes": 60, "wall_minutes": 14.0}
    options = {"seed": 0, "setting": setting}
    return played(6000, successes, kind="flywheel", options=options, result=told, began=began)


def loop(name: str, setting: str) -> Cell:
    return Cell(name, FLYWHEEL, {"seed": 0, "setting": setting}, None)


def test_loops_are_compared_over_the_fresh_episodes_that_their_commands_chose():
    """By hand: of 6 pairs the loop alone solves 3 and the control none: p = 2 / 2^3."""
    arm, control = loop("control", "learning=false"), loop("loop", "learning=true")
    measured = [turned("111011", "learning=true"), turned("100001", "learning=false")]
    told = compare(standing(arm, *measured), standing(control, *measured))
    assert (told["pairs"], told["arm_only"], told["baseline_only"]) == (6, 0, 3)
    assert told["p"] == pytest.approx(2 / 2**3)


def test_a_loop_shows_its_fresh_episodes_beside_its_own_figures_and_the_newest_counts():
    of = loop("loop", "learning=true")
    found = standing(of, turned("0000", "learning=true"), turned("1110", "learning=true"))
    assert found.missing() == [] and found.expected_s(range(0)) == 8.0
    summary = found.summary()
    assert (summary["episodes"], summary["wall_minutes"]) == (60, 14.0)
    rate = summary["played"]
    assert (rate["successes"], rate["episodes"], rate["success_rate"], *rate["ci95"]) == (3, 4, *wilson(3, 4))


def test_a_loop_that_measured_no_fresh_episodes_is_told_without_them():
    of = loop("loop", "learning=true")
    nothing = dataclasses.replace(turned("1", "learning=true"), n=1, tasks=[], task_of=[], outcomes={})
    assert standing(of, nothing).summary()["played"]["episodes"] == 0
    assert compare(standing(of, nothing), standing(of, nothing))["pairs"] == 0
