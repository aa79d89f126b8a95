"""Failure labels: constructed episodes of each kind, and what they are judged by."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
import json

import mishaps
import mujoco
import numpy as np
import pytest
from mishaps import Dropper, Greaser, Misser, behind_curtain, curtained, play

from flexor.runtime.robot import FailureEvent
from flexor.sim.failure.judge import LABELS, FailureJudge, leading
from flexor.sim.failure.moment import MomentReader
from flexor.sim.failure.tabletop import TabletopScene
from flexor.sim.oracle import Oracle
from flexor.sim.robots import TabletopRobot
from flexor.sim.scenes import SCENES
from flexor.sim.tabletop import MAX_STEPS
from flexor.sim.tasks import TASKS
from flexor.sim.world import World

RED_ON_PLATE, PUSH = "red_block_on_plate", "puck_to_white_mat"


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    return {name: World(scene) for name, scene in SCENES.items()}


@pytest.fixture
def curtained_world() -> World:
    with curtained():
        return World(SCENES["blocks"])


def world_of(worlds: dict[str, World], task: str) -> World:
    return worlds[TASKS[task].scene]


def test_forty_successes_of_the_oracle_fire_nothing(worlds: dict[str, World]) -> None:
    for number, name in zip(range(40), itertools.cycle(TASKS), strict=False):
        played = play(world_of(worlds, name), name, 200 + number, mishaps.expert(TASKS[name]), MAX_STEPS)
        assert played.success, (name, 200 + number)
        assert played.events == (), (name, 200 + number)
        assert played.label is None


@pytest.mark.parametrize("name", [RED_ON_PLATE, "blue_block_in_box", "green_block_on_purple_block"])
def test_an_item_that_is_let_go_on_the_way_slipped(worlds: dict[str, World], name: str) -> None:
    played = play(world_of(worlds, name), name, 301, Dropper(goes_on=False))
    assert (played.labels, played.label) == (["grasp_slip", "timeout"], "grasp_slip")
    slip = played.only("grasp_slip")
    assert slip.data["how"] == "let go"
    assert 0.04 < slip.data["lift_m"] < 0.08
    assert slip.recovered_at is None


def test_an_item_that_slides_out_of_closed_fingers_slipped() -> None:
    played = play(World(SCENES["blocks"]), "blue_block_in_box", 301, Greaser(), 60)
    assert (played.labels, played.label) == (["grasp_slip", "timeout"], "grasp_slip")
    assert played.only("grasp_slip").data["how"] == "slipped"


def test_a_slip_that_was_put_right_is_kept_and_explains_no_success(worlds: dict[str, World]) -> None:
    played = play(world_of(worlds, RED_ON_PLATE), RED_ON_PLATE, 301, Dropper(goes_on=True), 150)
    assert played.success
    assert (played.labels, played.label) == (["grasp_slip"], None)
    slip = played.only("grasp_slip")
    assert slip.recovered_at is not None
    assert slip.recovered_at > slip.step + 10


@pytest.mark.parametrize("seed", [301, 302, 303])
def test_closing_beside_the_item_is_a_miss(worlds: dict[str, World], seed: int) -> None:
    played = play(world_of(worlds, RED_ON_PLATE), RED_ON_PLATE, seed, Misser(), 60)
    assert (played.labels, played.label) == (["reach_miss", "timeout"], "reach_miss")
    data = played.only("reach_miss").data
    assert data["how"] == "closed without it"
    assert data["distance_m"] == pytest.approx(0.05, abs=0.005)
    assert data["held_instead"] is None


def test_taking_the_wrong_item_is_a_miss_and_then_a_collision(worlds: dict[str, World]) -> None:
    played = play(world_of(worlds, RED_ON_PLATE), RED_ON_PLATE, 301, mishaps.wrong_item, 60)
    assert (played.labels, played.label) == (["reach_miss", "collision", "timeout"], "reach_miss")
    assert played.only("reach_miss").data["held_instead"] == "blue_block"
    collision = played.only("collision").data
    assert (collision["how"], collision["on"]) == ("moved", "blue_block")


@pytest.mark.parametrize(
    ("name", "drive"), [(RED_ON_PLATE, mishaps.far_away), (PUSH, mishaps.far_away), (PUSH, mishaps.hover)]
)
def test_never_reaching_the_item_is_a_miss_that_is_told_at_the_end(
    worlds: dict[str, World], name: str, drive: mishaps.Driver
) -> None:
    played = play(world_of(worlds, name), name, 301, drive, 50)
    assert (played.labels, played.label) == (["reach_miss", "timeout"], "reach_miss")
    miss = played.only("reach_miss")
    assert (miss.step, miss.data["how"]) == (49, "never reached")


@pytest.mark.parametrize(
    ("drive", "how", "on"),
    [
        (mishaps.into_table, "pressed", "table"),
        (mishaps.into_box, "pressed", "box"),
        (mishaps.sweep_neighbour, "moved", "blue_block"),
    ],
)
def test_pressing_on_or_moving_what_should_be_left_alone_is_a_collision(
    worlds: dict[str, World], drive: mishaps.Driver, how: str, on: str
) -> None:
    played = play(world_of(worlds, RED_ON_PLATE), RED_ON_PLATE, 303, drive, 55)
    assert played.labels == ["collision", "reach_miss", "timeout"]
    assert played.label == "collision"
    data = played.only("collision").data
    assert (data["how"], data["on"]) == (how, on)


def test_what_still_falls_when_an_episode_begins_was_moved_by_nobody(worlds: dict[str, World]) -> None:
    world = worlds["blocks"]
    world.reset(302)
    world.data.joint("blue_block_joint").qpos[2] += 0.3
    mujoco.mj_forward(world.model, world.data)
    judge = FailureJudge(TabletopScene(world, TASKS[RED_ON_PLATE]))
    for step in range(30):
        world.act(mishaps.still(world, TASKS[RED_ON_PLATE], step))
        judge.look(step)
    assert judge.events == ()
    world.data.joint("blue_block_joint").qpos[0] -= 0.04
    mujoco.mj_forward(world.model, world.data)
    judge.look(30)
    (moved,) = judge.events
    assert (moved.label, moved.data["on"], moved.data["distance_m"]) == ("collision", "blue_block", 0.04)


@pytest.mark.parametrize("drive", [mishaps.still, mishaps.hover])
def test_an_arm_that_only_waits_runs_out_of_time(worlds: dict[str, World], drive: mishaps.Driver) -> None:
    played = play(world_of(worlds, RED_ON_PLATE), RED_ON_PLATE, 302, drive, 50)
    assert (played.labels, played.label) == (["timeout"], "timeout")
    assert played.only("timeout").data == {"steps": 50}


def test_a_hand_in_the_line_of_sight_is_an_occlusion(worlds: dict[str, World]) -> None:
    played = play(world_of(worlds, RED_ON_PLATE), RED_ON_PLATE, 302, mishaps.park_in_view, 50)
    assert (played.labels, played.label) == (["occlusion", "timeout"], "occlusion")
    data = played.only("occlusion").data
    assert (data["of"], data["hidden_by"]) == ("red_block", "hand")


def test_a_curtain_is_an_occlusion_and_leads_before_the_miss_that_follows(curtained_world: World) -> None:
    def wait_then_miss(world: World, task: mishaps.Task, step: int) -> np.ndarray:
        return (mishaps.far_away if step < 30 else misser)(world, task, step)

    misser = Misser()
    played = play(curtained_world, RED_ON_PLATE, 301, behind_curtain(wait_then_miss, flat=True), 90)
    assert (played.labels, played.label) == (["occlusion", "reach_miss", "timeout"], "occlusion")
    assert played.only("occlusion").data["hidden_by"] == "curtain"
    assert played.only("occlusion").step == 19


def test_an_occlusion_that_is_over_does_not_explain_what_comes_later(curtained_world: World) -> None:
    def curtain_falls(world: World, task: mishaps.Task, step: int) -> np.ndarray:
        if step == 30:
            world.data.mocap_pos[0] = (0, 0, -3)
        return (mishaps.far_away if step < 60 else misser)(world, task, step)

    misser = Misser()
    played = play(curtained_world, RED_ON_PLATE, 301, behind_curtain(curtain_falls), 110)
    assert (played.labels, played.label) == (["occlusion", "reach_miss", "timeout"], "reach_miss")
    assert played.only("occlusion").recovered_at == 49


def test_what_leads_was_not_put_right_then_came_first_and_is_a_timeout_only_alone() -> None:
    def happened(label: str, step: int, recovered_at: int | None = None) -> FailureEvent:
        return FailureEvent(label, step, {}, recovered_at)

    end = happened("timeout", 199)
    assert leading([end]) == "timeout"
    assert leading([happened("grasp_slip", 40, 60), end]) == "grasp_slip"
    assert leading([happened("collision", 10, 60), happened("grasp_slip", 90), end]) == "grasp_slip"
    assert leading([happened("occlusion", 30), happened("reach_miss", 50), end]) == "occlusion"
    same_step = [happened(label, 7) for label in reversed(LABELS)]
    assert leading(same_step) == "collision"
    assert leading(same_step[:-1]) == "grasp_slip"


def test_the_pressing_force_is_what_mujocos_inverse_dynamics_say(worlds: dict[str, World]) -> None:
    world = worlds["blocks"]
    world.reset(303)
    reader = MomentReader(TabletopScene(world, TASKS[RED_ON_PLATE]))
    for _ in range(30):
        world.act(mishaps.into_table(world, TASKS[RED_ON_PLATE], 0))
    pressed = reader.read(29).pressed
    assert {on for _, on in pressed} == {"table"}
    mujoco.mj_rnePostConstraint(world.model, world.data)
    for body in ("finger1", "finger2"):
        outside = np.linalg.norm(world.data.body(body).cfrc_ext[3:])
        assert pressed[body, "table"] == pytest.approx(outside, rel=0.01)  # of a sum of points, not of vectors
    assert sum(pressed.values()) > 50.0


def test_the_gripper_command_is_read_from_its_servo_also_while_it_holds(worlds: dict[str, World]) -> None:
    world = worlds["blocks"]
    world.reset(1)
    reader = MomentReader(TabletopScene(world, TASKS[RED_ON_PLATE]))
    rng = np.random.default_rng(0)
    command = -1.0
    for step in range(60):
        if rng.random() < 0.3:
            command = rng.choice([-1.0, 1.0])
            world.act(np.array([0, 0, 0, 0, 0, 0, command]))
        else:
            world.hold()
        assert reader.read(step).closing == (command > 0), step


def test_judging_changes_nothing_in_the_world(worlds: dict[str, World]) -> None:
    states = []
    for judged in (False, True):
        world, task = worlds["blocks"], TASKS[RED_ON_PLATE]
        world.reset(3)
        oracle, judge = Oracle(task), FailureJudge(TabletopScene(world, task))
        for step in range(40):
            world.act(oracle.act(world))
            if judged:
                judge.look(step)
        states.append(world.data.qpos.copy())
    np.testing.assert_array_equal(*states)


def test_the_robot_tells_label_and_events_once_the_time_is_over() -> None:
    robot = TabletopRobot()
    began = robot.reset(302, RED_ON_PLATE)
    assert (began.failure, began.events, began.done) == (None, (), False)
    status = began
    for _ in range(MAX_STEPS):
        assert (status.failure, status.events) == (None, ())
        status = robot.act(np.array([0, 0, 0, 0, 0, 0, -1], np.float32))
    robot.close()
    assert (status.done, status.success, status.failure) == (True, False, "timeout")
    step, kind, data = status.events[0].record()
    assert (step, kind) == (MAX_STEPS - 1, "failure.timeout")
    assert json.loads(json.dumps(data)) == {"steps": MAX_STEPS, "recovered_at": None}
