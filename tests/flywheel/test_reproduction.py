"""The reproduction: what is told beside the published numbers, and what is said to be missing."""

from __future__ import annotations

from typing import Any

import pytest

from flexor.errors import FlexorError
from flexor.flywheel.reproduction import PUBLISHED, SUITES, Reproduction
from flexor.runtime.metrics import wilson

WHOLE = {"assets_hash": "0" * 64, "reduced_assets": False}


def reproduction(counts: dict[str, tuple[int, int]], **changes: Any) -> Reproduction:
    """With the first so many successes of so many episodes in each suite; ten tasks of fifty trials are wanted."""
    settings: dict[str, Any] = {"protocol": "openpi", "suites": tuple(counts), "tasks": 10, "trials": 50,
                                "assets": WHOLE, "render": "official"}  # fmt: skip
    made = Reproduction(**{**settings, **changes})
    for suite, (successes, episodes) in counts.items():
        for number in range(episodes):
            made.add(suite, {"success": number < successes, "fault": None})
    return made


def test_the_published_numbers_are_those_of_the_two_sources():
    assert PUBLISHED["openpi"].rates() == dict(zip(SUITES, (0.988, 0.982, 0.98, 0.924), strict=True))
    assert PUBLISHED["lerobot"].rates() == dict(zip(SUITES, (0.97, 0.99, 0.98, 0.96), strict=True))
    empty = {suite: (0, 0) for suite in SUITES}
    assert reproduction(empty).to_dict()["published"] == pytest.approx(0.9685)
    assert reproduction(empty, protocol="lerobot").to_dict()["published"] == pytest.approx(0.975)


def test_a_whole_reproduction_is_told_suite_by_suite_and_as_the_mean_without_a_note():
    counts = dict(zip(SUITES, (490, 495, 488, 470), strict=True))
    told = reproduction({suite: (count, 500) for suite, count in counts.items()}).to_dict()
    assert told["complete"] and told["notes"] == []
    assert told["success_rate"] == pytest.approx(sum(counts.values()) / 2000)
    assert told["ci95"] == pytest.approx(list(wilson(sum(counts.values()), 2000)[1:]))
    assert told["difference"] == pytest.approx((1943 - 1937) / 2000)
    low, high = told["difference_ci95"]
    assert low < 0 < told["difference"] < high
    spatial = told["suites"][0]
    assert (spatial["suite"], spatial["success_rate"], spatial["published"]) == ("libero_spatial", 0.98, 0.988)
    assert spatial["ci95"] == pytest.approx(list(wilson(490, 500)[1:]))
    assert spatial["difference"] == pytest.approx(-0.008)


def test_a_checkpoint_that_lost_what_it_could_differs_beyond_the_interval():
    told = reproduction({suite: (400, 500) for suite in SUITES}).to_dict()
    assert all(row["difference_ci95"][1] < 0 for row in (*told["suites"], told))


def test_suites_that_are_open_are_named_and_leave_the_mean_open():
    told = reproduction({"libero_spatial": (30, 30), "libero_goal": (0, 0)}).to_dict()
    assert not told["complete"]
    assert told["success_rate"] is told["ci95"] is told["difference"] is None
    assert told["notes"] == [
        "libero_spatial: 30 of 500 episodes played",
        "libero_goal: 0 of 500 episodes played",
        "libero_object: not asked for",
        "libero_10: not asked for",
    ]
    goal = told["suites"][1]
    assert (goal["episodes"], goal["success_rate"], goal["difference"]) == (0, None, None)


def test_what_makes_the_numbers_no_fair_comparison_is_noted():
    counts = {suite: (1, 2) for suite in SUITES}
    made = reproduction(counts, tasks=2, trials=1, assets={**WHOLE, "reduced_assets": True}, render="fast")
    notes = made.to_dict()["notes"]
    assert [note.split(",")[0].split(":")[0] for note in notes] == [
        "tasks x trials of each suite are 2 x 1; the published numbers are of 10 x 50",
        "reduced assets",
        "fast frames",
    ]
    made.add("libero_10", {"success": False, "fault": "MujocoException: unstable"})
    assert made.to_dict()["notes"][-1] == "failures because the simulator broke down: 1"


def test_under_lerobots_protocol_it_is_noted_that_the_published_episodes_began_elsewhere():
    counts = {suite: (10, 100) for suite in SUITES}
    (note,) = reproduction(counts, protocol="lerobot", trials=10).to_dict()["notes"]
    assert "in LeRobot's evaluation they did not before February 2026" in note
    assert reproduction({suite: (10, 500) for suite in SUITES}).to_dict()["notes"] == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"protocol": "gr00t"}, "nothing is published under the protocol 'gr00t'"),
        ({"suites": ("libero_90",)}, "nothing is published of libero_90"),
        ({"suites": ("libero_10", "libero_10")}, "expected each once"),
        ({"suites": ()}, "suites are none"),
    ],
)
def test_what_nothing_is_published_of_is_refused(changes: dict[str, Any], told: str):
    with pytest.raises(FlexorError, match=told):
        reproduction({}, **changes)
