"""Failure labels in LIBERO: constructed episodes of each kind in its scenes, and which part of a goal is watched."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Iterator

import libero_mishaps as mishaps
import mujoco
import numpy as np
import pytest
from libero_here import needs_libero
from libero_mishaps import Lifted, Misser, along, expert, for_steps, go, greased, over, play, still
from mishaps import Played
from numpy.typing import NDArray

from flexor.sim.failure.scene import Aim
from flexor.sim.libero.goal import Goal, Part
from flexor.sim.libero.robot import LiberoRobot
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.suites import find_suite
from flexor.sim.libero.watched import STAY_STEPS, StageScene

pytestmark = [needs_libero, pytest.mark.timeout(600)]

BOWL, OTHER_BOWL, BOX, PLATE = "akita_black_bowl_1", "akita_black_bowl_2", "cookies_1", "plate_1"
MUG, PUDDING = "porcelain_mug_1", "chocolate_pudding_1"
CABINET, DRAWER = "wooden_cabinet_1", "wooden_cabinet_1_cabinet_middle"
OPEN = -1.0


@pytest.fixture(scope="module")
def robot() -> Iterator[LiberoRobot]:
    """One bowl goes on the plate, another one stays."""
    opened = LiberoRobot("libero_spatial", only="0")
    yield opened
    opened.close()


@pytest.fixture
def bowls(robot: LiberoRobot) -> Iterator[Stage]:
    model = robot.stage.model
    kept = model.geom_friction.copy(), model.geom_priority.copy()
    yield robot.stage
    model.geom_friction[:], model.geom_priority[:] = kept


@pytest.fixture(scope="module")
def two() -> Iterator[Stage]:
    """The mug goes on the plate, the pudding beside it."""
    yield from _stage("libero_10", 6)


@pytest.fixture(scope="module")
def drawer() -> Iterator[Stage]:
    """The middle drawer is to be opened."""
    yield from _stage("libero_goal", 0)


def _stage(suite: str, number: int) -> Iterator[Stage]:
    stage = Stage(find_suite(suite).tasks[number])
    yield stage
    stage.env.close()


def _near(stage: Stage, thing: str, offset: tuple[float, float, float]) -> NDArray[np.float64]:
    """A place beside a thing as it stands when an episode begins."""
    mishaps.begin(stage)
    return stage.position(thing) + np.array(offset)


@pytest.mark.parametrize("trial", [0, 1])
def test_a_success_of_the_oracle_fires_nothing(bowls: Stage, trial: int) -> None:
    assert play(bowls, expert(bowls), 220, trial) == Played((), None, True)


def test_a_bowl_that_is_let_go_on_the_way_slipped(bowls: Stage) -> None:
    played = play(bowls, Lifted(expert(bowls), BOWL, still), 100)
    assert (played.labels, played.label) == (["grasp_slip", "timeout"], "grasp_slip")
    slip = played.only("grasp_slip")
    assert (slip.data["how"], slip.recovered_at) == ("let go", None)
    assert 0.02 < slip.data["lift_m"] < 0.06
    assert slip.data["goal_distance_m"] > 0.03


def test_a_bowl_whose_rim_slides_out_of_closed_fingers_slipped(bowls: Stage) -> None:
    played = play(bowls, Lifted(expert(bowls), BOWL, greased(BOWL)), 80)
    assert (played.labels, played.label) == (["grasp_slip", "timeout"], "grasp_slip")
    assert played.only("grasp_slip").data["how"] == "slipped"


def test_a_slip_that_was_put_right_is_kept_and_explains_no_success(bowls: Stage) -> None:
    again = for_steps(15, still, expert(bowls))
    played = play(bowls, Lifted(expert(bowls), BOWL, again), 220)
    assert (played.labels, played.label, played.success) == (["grasp_slip"], None, True)
    slip = played.only("grasp_slip")
    assert slip.recovered_at is not None and slip.recovered_at > slip.step + 10


def test_closing_over_the_bowl_is_a_miss(bowls: Stage) -> None:
    played = play(bowls, Misser(BOWL, (0.0, 0.0, 0.09)), 70)
    assert (played.labels, played.label) == (["reach_miss", "timeout"], "reach_miss")
    data = played.only("reach_miss").data
    assert (data["how"], data["held_instead"]) == ("closed without it", None)
    assert data["distance_m"] < 0.1


def test_taking_the_other_bowl_is_a_miss_and_then_a_collision(bowls: Stage) -> None:
    played = play(bowls, expert(bowls, Part("on", OTHER_BOWL, PLATE)), 70)
    assert (played.labels, played.label) == (["reach_miss", "collision", "timeout"], "reach_miss")
    assert played.only("reach_miss").data["held_instead"] == OTHER_BOWL
    collision = played.only("collision").data
    assert (collision["how"], collision["on"]) == ("moved", OTHER_BOWL)


def test_what_was_asked_for_is_watched_and_not_what_the_scene_is_known_for(bowls: Stage) -> None:
    other = Goal((Part("on", OTHER_BOWL, PLATE),))
    bowls.ask(other, "pick up the other bowl")
    try:
        played = play(bowls, expert(bowls), 220)
    finally:
        bowls.ask()
    assert played == Played((), None, True)


def test_never_coming_near_the_bowl_is_a_miss_that_is_told_at_the_end(bowls: Stage) -> None:
    played = play(bowls, over((0.0, 0.0, 0.15)), 40)
    assert (played.labels, played.label) == (["reach_miss", "timeout"], "reach_miss")
    miss = played.only("reach_miss")
    assert (miss.step, miss.data["how"]) == (39, "never reached")


def test_pressing_on_the_table_is_a_collision(bowls: Stage) -> None:
    played = play(bowls, for_steps(20, over((0.1, 0.0, -0.1)), mishaps.down), 60)
    assert (played.labels, played.label) == (["collision", "reach_miss", "timeout"], "collision")
    data = played.only("collision").data
    assert (data["how"], data["on"]) == ("pressed", "table")
    assert data["by"].startswith("gripper0_") and data["force_n"] >= 10.0


def test_sweeping_another_thing_away_is_a_collision(bowls: Stage) -> None:
    place = _near(bowls, BOX, (-0.10, 0.0, 0.02))
    played = play(bowls, along(lambda stage: place, (0.5, 0, 0), 40, 60), 65)
    assert played.label == "collision"
    assert {event.data["on"] for event in played.events if event.label == "collision"} == {BOX}
    assert "moved" in {event.data.get("how") for event in played.events}


def test_moving_what_the_task_is_about_is_no_collision(bowls: Stage) -> None:
    place = _near(bowls, PLATE, (-0.14, 0.0, 0.02))
    played = play(bowls, along(lambda stage: place, (0.7, 0, 0), 40, 60), 65)
    assert float(np.linalg.norm(bowls.position(PLATE) - place)) > 0.17  # 14 cm, and 3 more
    assert "collision" not in played.labels


def test_a_hand_in_the_line_of_sight_is_an_occlusion(bowls: Stage) -> None:
    def park(stage: Stage, step: int) -> NDArray[np.float32]:
        return go(stage, stage.position(BOWL) + np.array([0.13, 0.0, 0.15 if step < 20 else 0.05]), 1.0)

    played = play(bowls, park, 70)
    assert (played.labels, played.label) == (["occlusion", "timeout"], "occlusion")
    data = played.only("occlusion").data
    assert data["of"] == BOWL
    assert data["hidden_by"].startswith(("gripper0_", "robot0_"))


def test_an_arm_that_waits_or_hovers_runs_out_of_time(bowls: Stage) -> None:
    def hover(stage: Stage, step: int) -> NDArray[np.float32]:
        return go(stage, stage.position(BOWL) + np.array([0.0, 0.0, 0.1]), OPEN)

    for drive in (still, hover):
        played = play(bowls, drive, 40)
        assert (played.labels, played.label) == (["timeout"], "timeout")


def test_judging_changes_nothing_in_the_simulator(bowls: Stage) -> None:
    states = []
    for judged in (False, True):
        judge, drive = mishaps.begin(bowls), expert(bowls)
        for step in range(45):
            bowls.act(drive(bowls, step))
            if judged:
                judge.look(step)
        states.append(bowls.start())
    np.testing.assert_array_equal(*states)


def test_the_robot_tells_label_and_events_once_the_time_is_over(robot: LiberoRobot) -> None:
    (task,) = robot.spec.tasks
    began = robot.reset(0, task)
    assert (began.failure, began.events) == (None, ())
    robot._step = robot.spec.max_steps - 2
    action = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)
    before, ended = robot.act(action), robot.act(action)
    assert (before.failure, before.events, before.done) == (None, (), False)
    assert (ended.failure, ended.success, ended.done) == ("timeout", False, True)
    step, kind, data = ended.events[0].record()
    assert (step, kind) == (robot.spec.max_steps - 1, "failure.timeout")
    assert json.loads(json.dumps(data)) == {"steps": robot.spec.max_steps, "recovered_at": None}
    assert robot.reset(0, task).events == ()


def test_two_objects_are_watched_one_after_the_other(two: Stage) -> None:
    played = play(two, Lifted(expert(two), PUDDING, still), 250)
    assert two.holds(two.goal.parts[0])
    assert (played.labels, played.label) == (["grasp_slip", "timeout"], "grasp_slip")
    assert played.only("grasp_slip").data["how"] == "let go"


def test_beginning_with_the_second_object_is_no_miss(two: Stage) -> None:
    assert play(two, expert(two, *reversed(two.goal.parts)), 400) == Played((), None, True)


def test_a_drawer_is_reached_by_touch_and_its_handle_may_be_gripped(drawer: Stage) -> None:
    played = play(drawer, expert(drawer), 300)
    assert played.success
    assert "reach_miss" not in played.labels
    assert all(CABINET not in str(event.data.get("on")) for event in played.events)


def test_a_drawer_that_nothing_touches_is_missed(drawer: Stage) -> None:
    played = play(drawer, over((0.0, 0.0, 0.15)), 40)
    assert (played.labels, played.label) == (["reach_miss", "timeout"], "reach_miss")
    assert played.only("reach_miss").data["how"] == "never reached"


def _press_on_cabinet() -> mishaps.Driver:
    return along(lambda stage: stage.position(CABINET) + np.array([0.0, 0.0, 0.3]), (0, 0, -1), 40, 60)


def test_pressing_on_the_cabinet_beside_the_drawer_is_a_collision(drawer: Stage) -> None:
    played = play(drawer, _press_on_cabinet(), 60)
    assert played.label == "collision"
    assert played.events[0].data["on"] == CABINET


def _turn(stage: Stage, region: str, opening: float) -> None:
    stage.data.joint(stage.joint_names(region)[0]).qpos[0] = opening
    mujoco.mj_forward(stage.model, stage.data)


@pytest.mark.slow
def test_a_shut_drawer_is_opened_before_something_goes_in_and_that_puts_right_what_came_before() -> None:
    for stage in _stage("libero_goal", 3):
        mishaps.begin(stage)
        scene, top = StageScene(stage), f"{CABINET}_cabinet_top"
        assert scene.aim(None, ()) == Aim("work", top, "")
        _turn(stage, f"{CABINET}_top_region", -0.12)
        assert scene.aim(top, (top,)) == Aim("work", top, "")  # not let go of yet
        assert scene.aim(None, (top,)) == Aim("work", top, "")
        assert scene.aim(None, ()) == Aim("carry", BOWL, top, finished=1)
        assert scene.aim(None, (top,)).item == BOWL
        assert scene.aim(top, (top,)).item == top  # its handle is gripped once more
        assert scene.aim(None, ()) == Aim("carry", BOWL, top, finished=1)
        opening = expert(stage, Part("open", f"{CABINET}_top_region"))

        def clumsy(stage: Stage, step: int, opening: mishaps.Driver = opening) -> NDArray[np.float32]:
            if step == 5:
                stage.move("cream_cheese_1", np.array([0.04, 0.0]))
            return opening(stage, step)

        played = play(stage, clumsy, 120)
        moved = next(event for event in played.events if event.data.get("on") == "cream_cheese_1")
        assert (moved.label, moved.step) == ("collision", 5)
        assert moved.recovered_at is not None  # by the part that got done: no item was carried


@pytest.mark.slow
def test_a_drawer_is_closed_after_something_went_in_or_when_the_robot_sets_about_it() -> None:
    for stage in _stage("libero_10", 3):
        mishaps.begin(stage)
        assert [part.predicate for part in stage.goal.parts] == ["close", "in"]
        scene, bottom = StageScene(stage), "white_cabinet_1_cabinet_bottom"
        assert scene.aim(None, ()) == Aim("carry", BOWL, bottom)
        assert scene.aim(BOWL, (BOWL,)).item == BOWL
        for _ in range(STAY_STEPS):  # it may have slipped
            assert scene.aim(None, (bottom,)).item == BOWL
        assert scene.aim(None, (bottom,)) == Aim("work", bottom, "")
        assert scene.aim(BOWL, (BOWL,)) == Aim("carry", BOWL, bottom)
