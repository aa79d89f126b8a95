"""Moment: the simulator after one control step, as far as failures are judged by it."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim import panda
from flexor.sim.tasks import Task
from flexor.sim.world import World

ROBOT_ROOT = "link0"


@dataclass(frozen=True, slots=True)
class Moment:
    """The state after control step `step`.

    Attributes:
        step: counted from 0, as the recorder counts.
        task: what is asked.
        item, target, grip: middles of the task's item and target and the point between the finger tips, [3] m.
        fingers: how many of the two fingers touch each body that they touch.
        gap: distance between the fingers, m.
        closing: whether the gripper is commanded closed.
        pressed: force (N) by (who presses, on what): the robot's bodies on everything but the item, and the item on
            everything but table, floor and target. What is left out is the work itself.
        touched: force (N) of the whole robot on each other body, the item among them.
        movable: middle of each body that can move and is neither the robot's nor the item, [3] m.
    """

    step: int
    task: Task
    item: NDArray[np.float64]
    target: NDArray[np.float64]
    grip: NDArray[np.float64]
    fingers: Mapping[str, int]
    gap: float
    closing: bool
    pressed: Mapping[tuple[str, str], float]
    touched: Mapping[str, float]
    movable: Mapping[str, NDArray[np.float64]]

    @property
    def gripped(self) -> str | None:
        """The body that stops both closing fingers. Closed fingers that press on one from above grip nothing."""
        stopped = self.closing and self.gap > SMALLEST_GAP
        return next((body for body, count in self.fingers.items() if stopped and count == 2), None)

    @property
    def held(self) -> bool:
        """Whether the item is what is gripped."""
        return self.gripped == self.task.item

    @property
    def reach(self) -> float:
        """From the point between the finger tips to the middle of the item, m."""
        return float(np.linalg.norm(self.item - self.grip))


SMALLEST_GAP = 0.01  # m


def geom_owners(model: mujoco.MjModel) -> list[str]:
    """By geom id: the name of its body, or its own name where it is fixed to the world itself (table, floor)."""
    return [model.body(body).name if body else model.geom(geom).name for geom, body in enumerate(model.geom_bodyid)]


class MomentReader:
    """Reads moments of one episode of one task; changes nothing in the world."""

    def __init__(self, world: World, task: Task) -> None:
        """Begin at the state as it is: the gripper counts as commanded open if its target is not closing."""
        self._world, self._task = world, task
        model = world.model
        self._robot = {body for body in range(model.nbody) if model.body(model.body_rootid[body]).name == ROBOT_ROOT}
        self._fingers = {int(model.geom(name).id) for name in panda.FINGER_GEOMS}
        self._item = int(model.body(task.item).id)
        self._names = geom_owners(model)
        self._movable = [
            model.body(body).name for body in range(model.nbody) if model.body_dofnum[body] == 6 and body != self._item
        ]
        self._servo = int(model.actuator("servo1").id)
        self._opening = float(world.data.ctrl[self._servo])
        self._closing = self._opening <= 0.0
        self._force = np.zeros(6)

    def read(self, step: int) -> Moment:
        """The state now, after control step `step`."""
        world, task = self._world, self._task
        pressed, touched, fingers = self._contacts()
        return Moment(
            step=step,
            task=task,
            item=world.position(task.item),
            target=world.position(task.target),
            grip=world.grip_position(),
            fingers=fingers,
            gap=float(np.ptp(world.finger_positions())),
            closing=self._commanded_closed(),
            pressed=pressed,
            touched=touched,
            movable={name: world.position(name) for name in self._movable},
        )

    def _commanded_closed(self) -> bool:
        """From the target of the finger servo, which moves with the command until it is at an end of its way."""
        opening = float(self._world.data.ctrl[self._servo])
        if opening != self._opening or opening <= 0.0:
            self._closing = opening <= 0.0 or opening < self._opening
        self._opening = opening
        return self._closing

    def _contacts(self) -> tuple[dict[tuple[str, str], float], dict[str, float], dict[str, int]]:
        model, data, task = self._world.model, self._world.data, self._task
        pressed: dict[tuple[str, str], float] = {}
        touched: dict[str, float] = {}
        fingers: dict[str, set[int]] = {}
        for index, pair in enumerate(data.contact.geom.tolist()):
            bodies = [int(model.geom_bodyid[geom]) for geom in pair]
            mine = [body in self._robot for body in bodies]
            if all(mine) or not (any(mine) or self._item in bodies):
                continue
            first = mine.index(True) if any(mine) else bodies.index(self._item)
            by, on = self._names[pair[first]], self._names[pair[1 - first]]
            work = on == task.item if any(mine) else bodies[1 - first] == 0 or on == task.target
            mujoco.mj_contactForce(model, data, index, self._force)
            force = float(np.linalg.norm(self._force[:3]))
            if any(mine):
                touched[on] = touched.get(on, 0.0) + force
                fingers.setdefault(on, set()).update(self._fingers & set(pair))
            if not work:
                pressed[by, on] = pressed.get((by, on), 0.0) + force
        return pressed, touched, {body: len(which) for body, which in fingers.items()}
