"""LIBERO's scripted expert: solves a task of every kind, from where it is, and knows no past."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from libero_here import needs_libero

from flexor.sim.libero.attempts import attempt, try_expert
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.oracle.grasps import best_grasp
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.suites import SuiteError, find_suite, official_starts

pytestmark = [needs_libero, pytest.mark.timeout(600)]

KINDS = {
    "a bowl by its rim": ("libero_spatial", 0),
    "a bowl in a drawer": ("libero_spatial", 4),
    "a can into a basket": ("libero_object", 0),
    "a drawer by its handle": ("libero_goal", 0),
    "a plate by its rim": ("libero_goal", 5),
    "a knob": ("libero_goal", 7),
    "a bottle onto a rack": ("libero_goal", 9),
    "two things into a basket": ("libero_10", 0),
    "a knob and a pot": ("libero_10", 2),
    "a drawer pushed shut": ("libero_10", 3),
    "a book into a caddy": ("libero_10", 5),
    "a microwave and its door": ("libero_10", 9),
}

OTHER_KINDS = {
    "a knob turned back": (8, "KITCHEN_SCENE8_turn_off_the_stove"),
    "a pan by its handle": (2, "KITCHEN_SCENE3_put_the_frying_pan_on_the_stove"),
    "one drawer shut before another is opened": (
        3,
        "KITCHEN_SCENE4_close_the_bottom_drawer_of_the_cabinet_and_open_the_top_drawer",
    ),
    "a bottle between a cabinet and a rack": (3, "KITCHEN_SCENE4_put_the_wine_bottle_on_the_wine_rack"),
    "a mug too near for a hand that looks down": (4, "LIVING_ROOM_SCENE5_put_the_red_mug_on_the_left_plate"),
}


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(find_suite("libero_spatial").tasks[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_task_is_solved_and_stays_so(kind: str):
    suite, number = KINDS[kind]
    stage = Stage(find_suite(suite).tasks[number])
    tried = attempt(stage, 1)
    assert tried.success, tried
    expert = Expert(stage)
    for _ in range(15):  # lets go, and goes away
        stage.act(expert.act())
    assert stage.is_done()


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_each_kind_of_what_else_can_be_asked_for_is_solved_from_starts_of_our_own(kind: str):
    number, other = OTHER_KINDS[kind]
    layout = find_suite("libero_10").tasks[number].name
    for tried in try_expert("libero_10", [f"{other}@{layout}"], 2, 1, print, first=100, starts="sampled"):
        assert tried.success, tried


def test_the_action_depends_on_the_present_state_alone(stage: Stage):
    stage.reset(official_starts(stage.task)[2], stage.official_fixtures(2))
    stage.wait()
    old = Expert(stage)
    for _ in range(40):
        action = old.act()
        np.testing.assert_array_equal(Expert(stage).act(), action)
        assert action.shape == (7,) and action.dtype == np.float32 and np.abs(action).max() <= 1.0
        stage.act(action)


def test_it_takes_over_after_somebody_else_has_moved_the_arm_about(stage: Stage):
    rng = np.random.default_rng(4)
    stage.reset(official_starts(stage.task)[3], stage.official_fixtures(3))
    stage.wait()
    for _ in range(6):
        push = np.append(rng.uniform(-1.0, 1.0, 6), rng.choice([-1.0, 1.0]))
        for _ in range(8):
            stage.act(push)
    expert = Expert(stage)
    assert any(_played(stage, expert) for _ in range(220))


def _played(stage: Stage, expert: Expert) -> bool:
    stage.act(expert.act())
    return stage.is_done()


def test_a_bowl_is_taken_in_one_way_wherever_the_hand_comes_from(stage: Stage):
    stage.reset(official_starts(stage.task)[3], stage.official_fixtures(3))
    stage.wait()
    bowl, way = "akita_black_bowl_1", np.random.default_rng(0)
    found = []
    for _ in range(4):
        found.append(best_grasp(stage, Shapes(stage), bowl))
        push = np.append(way.uniform(-1, 1, 2), [0.5, 0, 0, way.uniform(-1, 1), -1])
        for _ in range(6):
            stage.act(push.astype(np.float32))
    hands = [np.abs(grasp.rotation[:, 0] @ found[0].rotation[:, 0]) for grasp in found]
    np.testing.assert_allclose([grasp.point for grasp in found], [found[0].point] * 4, atol=1e-3)
    np.testing.assert_allclose(hands, 1.0, atol=1e-3)  # or with the fingers the other way round
    assert found[0].point[1] > stage.position(bowl)[1] + 0.03  # on its left


def test_attempts_in_a_worker_are_those_made_here(stage: Stage):
    told = []
    (there,) = try_expert("libero_spatial", ["0"], 1, 1, told.append)
    assert told == [there]
    assert there == attempt(stage, 0)


@pytest.mark.slow
def test_the_command_tells_of_each_task_what_attempts_tells(stage: Stage):
    told = _flexor_oracle("--sim", "libero_spatial", "--tasks", "0", "--trials", "1", "--workers", "1", "--json", "-")
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["rows"] == [asdict(attempt(stage, 0))]
    assert report["tasks"][stage.task.name]["episodes"] == report["episodes"] == 1
    assert (report["starts"], len(report["assets_hash"])) == ("official", 64)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--sim", "libero_goal", "--trials", "51"), "51 is more than LIBERO's 50 states"),
        (("--sim", "libero_goal", "--episodes", "5"), "--trials"),
        (("--sim", "tabletop", "--trials", "5"), "is for LIBERO's suites"),
    ],
)
def test_what_the_command_cannot_count_is_refused_in_a_line(arguments: tuple[str, ...], told: str):
    run = _flexor_oracle(*arguments)
    assert run.returncode != 0
    assert told in " ".join(run.stderr.replace("\u2502", " ").split())
    assert "Traceback" not in run.stderr


def _flexor_oracle(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flexor", "oracle", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_an_unknown_suite_or_task_is_refused():
    with pytest.raises(SuiteError, match="libero_spatial"):
        try_expert("libero_kitchen", [], 1, 1, print)
    with pytest.raises(SuiteError, match="no task"):
        try_expert("libero_spatial", ["99"], 1, 1, print)
