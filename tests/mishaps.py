"""Episodes that go wrong in a known way, in the real simulator: who drives the arm, and what is done to the world.

The tests judge them, and `python tests/draw_mishaps.py` draws the pictures of docs/failures.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.robot import FailureEvent
from flexor.sim import world as world_module
from flexor.sim.failure.judge import FailureJudge
from flexor.sim.failure.tabletop import TabletopScene
from flexor.sim.motion import CLOSE, OPEN, step_along
from flexor.sim.oracle import Oracle
from flexor.sim.tasks import TASKS, Task, is_done
from flexor.sim.world import World

Driver = Callable[[World, Task, int], NDArray[np.float32]]
CURTAIN = '<body name="curtain" mocap="true" pos="0 0 -3"><geom name="curtain" type="box" size="0.005 0.12 0.10" '
CURTAIN += 'contype="0" conaffinity="0" rgba="0.35 0.35 0.4 1"/></body>'


@dataclass(frozen=True, slots=True)
class Played:
    """One episode: its events, its leading label, whether it succeeded."""

    events: tuple[FailureEvent, ...]
    label: str | None
    success: bool

    @property
    def labels(self) -> list[str]:
        return [event.label for event in self.events]

    def only(self, label: str) -> FailureEvent:
        (event,) = [event for event in self.events if event.label == label]
        return event


def play(
    world: World,
    name: str,
    seed: int,
    drive: Driver,
    steps: int = 100,
    look: Callable[[int, NDArray[np.float32]], None] = lambda step, action: None,
) -> Played:
    """Play until the task is done or `steps` are over, which is the step limit then."""
    task = TASKS[name]
    world.reset(seed)
    judge = FailureJudge(TabletopScene(world, task))
    success, step = False, 0
    for step in range(steps):
        action = drive(world, task, step)
        look(step, action)
        world.act(action)
        judge.look(step)
        success = is_done(task, world)
        if success:
            break
    label = judge.finish(step, success)
    return Played(judge.events, label, success)


@contextmanager
def curtained() -> Iterator[None]:
    """Worlds that are made in here have a curtain of 24 x 20 cm: light stops there, everything else passes through."""
    plain = world_module.scene_xml

    def with_curtain(*args: Any, **kwargs: Any) -> str:
        return plain(*args, **kwargs).replace("</worldbody>", f"{CURTAIN}</worldbody>")

    with patch.object(world_module, "scene_xml", with_curtain):
        yield


def hang_curtain(world: World, item: str, flat: bool) -> None:
    """Between the agent camera and an item, or flat over the item, where no camera looks under it."""
    eye, at = world.data.cam("agentview").xpos, world.position(item)
    way = eye - at
    if flat:
        world.data.mocap_pos[0] = at + np.array([0.0, 0.0, 0.05])
        world.data.mocap_quat[0] = (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)
        return
    world.data.mocap_pos[0] = at + 0.09 * way / np.linalg.norm(way)
    world.data.mocap_quat[0] = (np.cos(0.3), 0.0, -np.sin(0.3), 0.0)  # leans back, across the line of sight


def still(world: World, task: Task, step: int) -> NDArray[np.float32]:
    return np.array([0, 0, 0, 0, 0, 0, OPEN], np.float32)


def expert(task: Task) -> Driver:
    oracle = Oracle(task)
    return lambda world, task, step: oracle.act(world)


def go(world: World, place: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
    return step_along(world, place - world.grip_position(), gripper)


class Dropper:
    """The oracle, until the item is 5 cm up: then the gripper opens for a while, and the oracle goes on or does not."""

    def __init__(self, goes_on: bool) -> None:
        self._goes_on, self._dropped_at = goes_on, -1
        self._oracle: Oracle | None = None

    def __call__(self, world: World, task: Task, step: int) -> NDArray[np.float32]:
        self._oracle = self._oracle or Oracle(task)
        action = self._oracle.act(world)
        if self._dropped_at < 0 and world.position(task.item)[2] > 0.07:
            self._dropped_at = step
        if self._dropped_at < 0:
            return action
        if step < self._dropped_at + 10:
            return still(world, task, step)
        return action if self._goes_on else still(world, task, step)


class Greaser:
    """The oracle, with an item that turns slippery when it is 5 cm up. The gripper stays closed."""

    def __init__(self) -> None:
        self._oracle: Oracle | None = None
        self._greased = False

    def __call__(self, world: World, task: Task, step: int) -> NDArray[np.float32]:
        self._oracle = self._oracle or Oracle(task)
        if world.position(task.item)[2] > 0.07:
            geom = world.model.geom(task.item)
            geom.friction[:], geom.priority[:] = (0.01, 0.001, 0.0001), 2
            self._greased = True
        if self._greased:
            return np.array([0, 0, 0.2, 0, 0, 0, CLOSE], np.float32)
        return self._oracle.act(world)


class Misser:
    """Goes down 5 cm in front of the item (beside it a finger would land on it), closes, and goes up again."""

    def __init__(self) -> None:
        self._beside = np.array([-0.05, 0.0, 0.0])
        self._closing = 0

    def __call__(self, world: World, task: Task, step: int) -> NDArray[np.float32]:
        place = world.position(task.item) + self._beside
        if self._closing == 0 and np.linalg.norm(place - world.grip_position()) < 0.01:
            self._closing = 1
        if self._closing == 0:
            over = 2.0 * np.linalg.norm((place - world.grip_position())[:2])
            return go(world, place + np.array([0, 0, min(over, 0.1)]), OPEN)
        self._closing += 1
        return go(world, place + np.array([0, 0, 0.0 if self._closing < 15 else 0.15]), CLOSE)


def wrong_item(world: World, task: Task, step: int) -> NDArray[np.float32]:
    """Lifts the scene's other block; holds it up."""
    other = next(item.name for item in world.scene.items if item.kind == "block" and item.name != task.item)
    at, grip = world.position(other), world.grip_position()
    beside = float(np.hypot(*(at - grip)[:2]))
    if world.fingers_touching(other) == 2 and step > 30:
        return go(world, np.array([at[0], at[1], 0.15]), CLOSE)
    if beside < 0.012 and abs(at[2] - grip[2]) < 0.01:
        return go(world, at, CLOSE)
    return go(world, at + np.array([0, 0, min(0.12, 2.5 * max(0.0, beside - 0.01))]), OPEN)


def into_table(world: World, task: Task, step: int) -> NDArray[np.float32]:
    """Straight down beside everything, and on."""
    return np.array([0, 0, -1, 0, 0, 0, OPEN], np.float32)


def into_box(world: World, task: Task, step: int) -> NDArray[np.float32]:
    """Down beside the box, then against its wall."""
    box = world.position("box")
    side = -np.sign(box[1]) or 1.0
    beside = box + np.array([0, side * 0.13, 0.03])
    if step < 35:
        return go(world, beside + np.array([0, 0, 0.12 if step < 18 else 0.0]), CLOSE)
    return np.array([0, -side, 0, 0, 0, 0, CLOSE], np.float32)


def sweep_neighbour(world: World, task: Task, step: int) -> NDArray[np.float32]:
    """Pushes the scene's other block along the table with closed fingers."""
    other = next(item.name for item in world.scene.items if item.kind == "block" and item.name != task.item)
    at = world.position(other)
    if step < 30:
        return go(world, at + np.array([-0.08, 0, 0.12 if step < 18 else 0.0]), CLOSE)
    return np.array([0.4 if step < 50 else 0, 0, 0, 0, 0, 0, CLOSE], np.float32)


def far_away(world: World, task: Task, step: int) -> NDArray[np.float32]:
    """To the side of the table where the item is not."""
    return go(world, np.array([0.45, -0.3 * (np.sign(world.position(task.item)[1]) or 1.0), 0.25]), OPEN)


def hover(world: World, task: Task, step: int) -> NDArray[np.float32]:
    """Over the item with open fingers, for ever."""
    return go(world, world.position(task.item) + np.array([0, 0, 0.06]), OPEN)


def park_in_view(world: World, task: Task, step: int) -> NDArray[np.float32]:
    """The hand goes down between the agent camera and the item, and stays there."""
    at = world.position(task.item)
    return go(world, at + np.array([0.075, 0.0, 0.12 if step < 15 else 0.0]), CLOSE)


def behind_curtain(drive: Driver, flat: bool = False) -> Driver:
    """The same driver; the curtain hangs from the first step on."""

    def drive_behind(world: World, task: Task, step: int) -> NDArray[np.float32]:
        if step == 0:
            hang_curtain(world, task.item, flat)
        return drive(world, task, step)

    return drive_behind
