"""The gymnasium environment and the robot door: keys, pictures, reproducibility, worker processes."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from flexor.sim.robots import TabletopRobot, UnknownRobotError, open_robot, sim_robot
from flexor.sim.tabletop import MAX_STEPS, TabletopEnv, TaskError
from flexor.sim.tasks import TASKS

LIBERO_KEYS = {
    "agentview_image": (128, 128, 3),
    "robot0_eye_in_hand_image": (128, 128, 3),
    "robot0_eef_pos": (3,),
    "robot0_eef_quat": (4,),
    "robot0_gripper_qpos": (2,),
    "robot0_joint_pos": (7,),
}


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    made = TabletopEnv("red_block_on_plate")
    yield made
    made.close()


@pytest.fixture(scope="module")
def robot() -> Iterator[TabletopRobot]:
    made = TabletopRobot()
    yield made
    made.close()


def episode_digest(seed: int) -> str:
    """Everything that an episode of random actions shows, as one hash."""
    env = TabletopEnv("blue_block_in_box")
    rng = np.random.default_rng(seed)
    seen = hashlib.sha256()
    observation, _ = env.reset(seed=seed)
    for _ in range(10):
        for key in sorted(observation):
            seen.update(observation[key].tobytes())
        observation, *_ = env.step(rng.uniform(-1, 1, 7).astype(np.float32))
    return seen.hexdigest()


def test_it_passes_gymnasiums_own_checker(env: TabletopEnv) -> None:
    check_env(env, skip_render_check=True)


def test_observations_have_liberos_keys_and_shapes(env: TabletopEnv) -> None:
    observation, info = env.reset(seed=1)
    assert {key: value.shape for key, value in observation.items()} == LIBERO_KEYS
    assert observation["agentview_image"].dtype == np.uint8
    assert info["prompt"] == "put the red block on the plate"


def test_the_pictures_are_upright_and_show_the_scene(env: TabletopEnv) -> None:
    observation, _ = env.reset(seed=1)
    picture = observation["agentview_image"].astype(int)
    red = (picture[..., 0] > 120) & (picture[..., 1] < 80) & (picture[..., 2] < 80)
    rows = np.nonzero(red)[0]
    assert 5 < red.sum() < 400
    assert rows.min() > 20  # the block lies on the table, below the hand at the upper edge


def test_the_same_seed_gives_the_same_bits_in_worker_processes() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        first, second, other = pool.map(episode_digest, (3, 3, 4))
    assert first == second != other


def test_an_episode_that_does_nothing_is_truncated_not_terminated(env: TabletopEnv) -> None:
    env.reset(seed=2)
    world = env.world
    for _ in range(MAX_STEPS - 1):
        world.act(np.zeros(7))
    env._step = MAX_STEPS - 1  # the quick way through 199 rendered steps
    _, reward, terminated, truncated, info = env.step(np.zeros(7, dtype=np.float32))
    assert (reward, terminated, truncated, info["success"]) == (0.0, False, True, False)


def test_an_unknown_task_or_robot_is_named_with_the_known_ones() -> None:
    with pytest.raises(TaskError, match=r"'juggle'.*red_block_on_plate"):
        TabletopEnv("juggle")
    with pytest.raises(UnknownRobotError, match=r"'sim:moon'.*sim:tabletop"):
        open_robot("sim:moon")
    with pytest.raises(UnknownRobotError, match=r"'moon'.*tabletop"):
        sim_robot("moon")


def test_the_robot_says_what_it_shows(robot: TabletopRobot) -> None:
    spec = robot.spec
    assert set(spec.tasks) == set(TASKS)
    for task in spec.tasks:
        status = robot.reset(5, task)
        observation = robot.observe()
        assert (status.step, status.done, status.success) == (0, False, False)
        assert {name: image.shape[:2] for name, image in observation.images.items()} == spec.cameras
        assert observation.prompt == spec.tasks[task]
        assert observation.state.shape == (spec.state_dim,)
        assert observation.state.dtype == np.float32
        np.testing.assert_array_equal(observation.state, robot.state())


def test_one_seed_is_one_scene_whatever_the_task(robot: TabletopRobot) -> None:
    looks: dict[str, list[np.ndarray]] = {}
    for task in robot.spec.tasks:
        robot.reset(12, task)
        looks.setdefault(TASKS[task].scene, []).append(robot.observe().images["agentview"])
    assert len(looks) == 3
    for seen in looks.values():
        assert len(seen) == 4
        assert all(np.array_equal(seen[0], look) for look in seen[1:])


def test_act_and_hold_count_steps_until_the_episode_is_over(robot: TabletopRobot) -> None:
    robot.reset(1, "red_block_in_box")
    assert robot.act(np.zeros(7, dtype=np.float32)).step == 1
    assert robot.hold().step == 2
    assert not any(robot.hold().done for _ in range(MAX_STEPS - 3))
    assert robot.hold().done
