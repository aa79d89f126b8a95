"""A LIBERO suite as a robot: what it shows and does is the benchmark's own, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import official_libero
import pytest
from libero_here import needs_libero
from official_libero import LOOKS, WAIT, actions

from flexor.errors import FlexorError
from flexor.pi05.images import resize_with_pad
from flexor.runtime.robot import RobotFault
from flexor.sim.libero.protocol import LiberoSettings, ProtocolError
from flexor.sim.robots import LIBERO, UnknownRobotError, open_robot, sim_robot
from flexor.sim.scenes import CAMERAS

pytestmark = [needs_libero, pytest.mark.timeout(600)]

STILL = np.zeros(7, np.float32)


@pytest.fixture(scope="module")
def robot():
    from flexor.sim.libero.robot import LiberoRobot

    opened = LiberoRobot("libero_spatial", LiberoSettings(render="fast"))
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "number"), [("libero_spatial", "4"), pytest.param("libero_goal", "7", marks=pytest.mark.nightly)]
)
def test_frames_and_states_are_those_of_the_benchmarks_own_loop_in_every_bit(tmp_path, suite: str, number: str):
    path = tmp_path / "official.npz"
    program = [sys.executable, official_libero.__file__, suite, number, str(path)]
    run = subprocess.run(program, capture_output=True, text=True, timeout=110, cwd=tmp_path, env=_environ())
    assert run.returncode == 0, run.stderr
    official = np.load(path)

    from flexor.sim.libero.robot import LiberoRobot

    ours = LiberoRobot(suite)
    for trial in (0, 1):
        ours.reset(trial, number)
        for step in range(WAIT - 1, WAIT + len(actions(trial))):
            if step >= WAIT:
                ours.act(actions(trial)[step - WAIT])
            np.testing.assert_array_equal(ours.state(), official[f"states{trial}"][step].astype(np.float32))
            if step in LOOKS:
                for camera, raw in zip(CAMERAS, official[f"frames{trial}"][LOOKS.index(step)], strict=True):
                    expected = resize_with_pad(np.ascontiguousarray(raw[::-1, ::-1]), 224)
                    np.testing.assert_array_equal(ours.observe().images[camera], expected)
        np.testing.assert_array_equal(ours.stage.start(), official[f"simulator{trial}"])
    ours.close()


def test_the_same_seed_and_actions_give_the_same_bits_whatever_was_played_before(robot):
    def episode() -> tuple[bytes, bytes]:
        robot.reset(3, "0")
        for action in actions(0)[:4]:
            robot.act(action)
        observation = robot.observe()
        return observation.state.tobytes(), observation.images[CAMERAS[0]].tobytes()

    first = episode()
    robot.reset(11, "0")
    robot.act(actions(1)[0])
    assert episode() == first


def test_a_seed_is_the_number_of_the_official_initial_state(robot):
    def settled(seed: int) -> bytes:
        robot.reset(seed, "0")
        return robot.stage.start().tobytes()

    assert settled(53) == settled(3) != settled(4)


def test_the_spec_says_what_the_benchmark_is_and_the_conditions_what_was_measured(robot):
    spec = robot.spec
    assert spec.name == "sim:libero_spatial"
    assert (len(spec.tasks), spec.max_steps, spec.hz, spec.state_dim, spec.action_dim) == (10, 220, 20.0, 8, 7)
    assert spec.cameras == {camera: (128, 128) for camera in CAMERAS}
    assert {"protocol", "render", "starts", "shift", "assets_hash", "reduced_assets"} <= set(spec.conditions)
    robot.reset(0, "2")
    observation = robot.observe()
    assert observation.prompt == "pick up the black bowl from table center and place it on the plate"
    assert {camera: image.shape for camera, image in observation.images.items()} == {
        camera: (128, 128, 3) for camera in CAMERAS
    }
    assert all(image.std() > 10.0 for image in observation.images.values())


def test_another_task_can_be_asked_for_in_a_tasks_scene(robot):
    own, other, *_ = robot.spec.tasks
    asked = f"{other}@{own}"
    assert robot.spec.alternatives[own] == (asked,)
    begun = robot.reset(3, asked)
    scene = robot.stage.start().tobytes()
    assert begun.prompt == robot.observe().prompt == robot.spec.tasks[other]
    assert not robot.solved(own) and not robot.solved(asked)
    bowl, plate = robot.stage.env.objects_dict["akita_black_bowl_2"], robot.stage.position("plate_1")
    robot.stage.data.joint(bowl.joints[-1]).qpos[:3] = [*plate[:2], plate[2] + 0.02]
    for _ in range(10):
        status = robot.act(STILL)
    assert status.success and robot.solved(asked) and not robot.solved(own)
    assert robot.reset(3, own).prompt == robot.spec.tasks[own]
    assert robot.stage.start().tobytes() == scene
    assert robot.act(STILL).success is False


def test_what_cannot_be_asked_for_in_a_scene_is_refused(robot):
    with pytest.raises(FlexorError, match=r"'open_the_door' cannot be asked for in the scene of .*next_to_the_ramekin"):
        robot.reset(0, "open_the_door@0")
    robot.reset(0, "0")
    with pytest.raises(FlexorError, match=r"of another scene; expected pick_up_the_black_bowl_between"):
        robot.solved("1")


def test_holding_keeps_the_gripper_as_it_was_told(robot):
    robot.reset(0, "0")
    closing = STILL.copy()
    closing[-1] = 1.0
    for _ in range(8):
        robot.act(closing)
    width = robot.state()[6:]
    for _ in range(8):
        robot.hold()
    assert np.abs(robot.state()[6:]).max() <= np.abs(width).max() + 1e-4


def test_an_episode_ends_at_the_protocols_limit(robot):
    robot.reset(0, "0")
    robot._step = robot.spec.max_steps - 2
    assert not robot.act(STILL).done
    ended = robot.act(STILL)
    assert ended.done and ended.success is False


def test_a_simulator_that_raises_is_a_fault_with_its_reason_and_the_next_episode_is_sound(robot):
    robot.reset(5, "0")
    sound = robot.stage.start().tobytes()
    robot.reset(5, "0")

    def explode(action: object) -> None:
        raise ValueError("the arm fell off")

    robot.stage.env.step = explode
    with pytest.raises(RobotFault, match=r"between_the_plate.* broke down after 0 steps: ValueError: the arm fell off"):
        robot.act(STILL)
    robot.reset(5, "0")
    assert robot.stage.start().tobytes() == sound


def test_a_simulator_that_raises_while_things_settle_is_a_fault_and_the_next_episode_is_sound(robot):
    robot.reset(5, "0")
    sound = robot.stage.start().tobytes()

    def explode(action: object) -> None:
        raise ValueError("the arm fell off")

    robot.stage.env.step = explode
    with pytest.raises(RobotFault, match=r"between_the_plate.* broke down after 0 steps: ValueError: the arm fell off"):
        robot.reset(5, "0")
    robot.reset(5, "0")
    assert robot.stage.start().tobytes() == sound


def test_a_seed_that_no_placement_is_found_for_is_a_fault_of_its_episode_alone(monkeypatch):
    from flexor.sim.libero.robot import LiberoRobot

    sampled = LiberoRobot("libero_spatial", LiberoSettings(render="fast", starts="sampled"), only="0")
    with monkeypatch.context() as short:
        short.setattr("flexor.sim.libero.starts.ATTEMPTS", 0)
        with pytest.raises(RobotFault, match=r"nothing stands in 0 placements .* seed 7; take another seed"):
            sampled.reset(7, "0")
    assert sampled.reset(7, "0").success is False
    sampled.close()


def test_a_simulation_that_diverges_is_a_fault(robot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log into the present folder
    robot.reset(0, "0")
    robot.stage.data.qvel[:] = np.nan
    with pytest.raises(RobotFault, match="diverged"):
        robot.act(STILL)


@pytest.mark.slow
def test_scenes_that_are_closed_do_not_spoil_the_frames_of_those_that_stay(robot):
    def frame(task: str) -> bytes:
        robot.reset(0, task)
        return robot.observe().images[CAMERAS[0]].tobytes()

    tasks = [str(number) for number in range(5)]  # more than are kept open
    first = {task: frame(task) for task in tasks}
    assert len(set(first.values())) == len(tasks)
    assert {task: frame(task) for task in reversed(tasks)} == first


def test_one_task_alone_can_be_a_robot_and_unknown_names_are_refused():
    alone = open_robot("sim:libero_goal/3")
    assert len(alone.spec.tasks) == 1
    alone.close()
    with pytest.raises(
        UnknownRobotError, match=r"unknown robot 'sim:libero_1000', expected one of: sim:tabletop, sim:"
    ):
        open_robot("sim:libero_1000")
    with pytest.raises(FlexorError, match="libero_goal has no task '99'; expected 0 to 9"):
        open_robot("sim:libero_goal/99")
    with pytest.raises(ProtocolError, match="unknown protocol"):
        open_robot("sim:libero_goal", libero=LiberoSettings(protocol="nobody's"))
    with pytest.raises(FlexorError, match="unknown way to render 'nicely', expected one of: official, fast"):
        open_robot("sim:libero_goal", libero=LiberoSettings(render="nicely"))
    assert [sim_robot(name, LIBERO) for name in ("libero_10", "libero_long")] == ["sim:libero_10", "sim:libero_long"]


def _environ() -> dict[str, str]:
    tests = str(Path(official_libero.__file__).parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(tests).parent), tests])}
