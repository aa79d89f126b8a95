"""A planning expert says what it then does, and the world that it thinks in goes on as if it had not."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.sim.oracle import Oracle
from flexor.sim.planner import PlanningExpert
from flexor.sim.scenes import SCENES
from flexor.sim.shift import NONE, Shift
from flexor.sim.tasks import TASKS
from flexor.sim.world import World

WORLDS = {"none": NONE, "high": Shift("high")}  # late, too short, pushed aside and noisy


def played(level: str, name: str, steps: int, thinking: bool) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Where everything is after some steps of the expert; its actions, and its plans where it made any."""
    task = TASKS[name]
    world = World(SCENES[task.scene], WORLDS[level])
    world.reset(4)
    expert, actions, plans = PlanningExpert(Oracle(task), world), [], []
    for _ in range(steps):
        if thinking:
            plans.append(expert.plan(10))
        actions.append(expert())
        world.act(actions[-1])
    return np.concatenate([world.data.qpos, world.data.qvel, world.data.ctrl]), actions, plans


@pytest.mark.parametrize("name", ["red_block_on_plate", "puck_to_white_mat"])
@pytest.mark.parametrize("level", list(WORLDS))
def test_a_plan_is_what_follows_and_thinking_leaves_the_world_bit_for_bit(level: str, name: str) -> None:
    steps = 40
    end, actions, plans = played(level, name, steps, thinking=True)
    plain_end, plain_actions, _ = played(level, name, steps, thinking=False)
    np.testing.assert_array_equal(end, plain_end)
    np.testing.assert_array_equal(actions, plain_actions)
    for step in range(steps - 10):
        np.testing.assert_array_equal(plans[step], actions[step : step + 10])


def test_a_thought_that_fails_leaves_the_world_as_it_was() -> None:
    task = TASKS["red_block_on_plate"]
    world = World(SCENES[task.scene])
    world.reset(4)
    before = world.data.qpos.copy()

    def lose() -> None:
        with world.imagined():
            world.act(np.ones(7))
            assert not np.array_equal(world.data.qpos, before)
            raise RuntimeError("lost the thread")

    with pytest.raises(RuntimeError, match="lost"):
        lose()
    np.testing.assert_array_equal(world.data.qpos, before)
