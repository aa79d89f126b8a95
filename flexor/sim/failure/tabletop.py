"""TabletopScene: a tabletop task as the failure watches see it."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Container

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim import panda
from flexor.sim.failure.scene import Aim, Anatomy
from flexor.sim.scenes import CAMERAS
from flexor.sim.tasks import Task
from flexor.sim.world import World

ROBOT_ROOT = "link0"
SMALLEST_GAP = 0.01  # m
CLOSING_STEPS = 4  # control steps


class TabletopScene:
    """One task in its world, from the state that the world is in."""

    def __init__(self, world: World, task: Task) -> None:
        self._world = world
        self._aim = Aim("push" if task.kind == "push" else "carry", task.item, task.target)
        self._servo = int(world.model.actuator("servo1").id)
        model = world.model
        roots = [model.body(root).name == ROBOT_ROOT for root in model.body_rootid]
        free = [body for body in range(model.nbody) if model.body_dofnum[body] == 6]
        self._anatomy = Anatomy(
            model=model,
            data=world.data,
            owners=_geom_owners(model),
            robot=np.array(roots)[model.geom_bodyid],
            fingers={int(model.geom(name).id): number for number, name in enumerate(panda.FINGER_GEOMS)},
            movable={model.body(body).name: body for body in free},
            about=frozenset({task.item}),
            ground=frozenset(model.geom(geom).name for geom in np.flatnonzero(model.geom_bodyid == 0)),
            smallest_gap=SMALLEST_GAP,
            closing_steps=CLOSING_STEPS,
            cameras=CAMERAS,
        )

    @property
    def anatomy(self) -> Anatomy:
        """What stays the same."""
        return self._anatomy

    def aim(self, gripped: str | None, touched: Container[str]) -> Aim:
        """The task has one part."""
        return self._aim

    def item_position(self) -> NDArray[np.float64]:
        """Middle of the task's item, [3] m."""
        return self._world.position(self._aim.item)

    def target_position(self) -> NDArray[np.float64]:
        """Middle of the task's target, [3] m."""
        return self._world.position(self._aim.target)

    def grip_position(self) -> NDArray[np.float64]:
        """The point between the finger tips, [3] m."""
        return self._world.grip_position()

    def finger_gap(self) -> float:
        """Between the fingers, m."""
        return float(np.ptp(self._world.finger_positions()))

    def finger_target(self) -> float:
        """Where the finger servo drives, m; 0 is closed."""
        return float(self._world.data.ctrl[self._servo])


def _geom_owners(model: mujoco.MjModel) -> tuple[str, ...]:
    """By geom id: the name of its body, or its own name where it is fixed to the world itself (table, floor)."""
    return tuple(
        model.body(body).name if body else model.geom(geom).name for geom, body in enumerate(model.geom_bodyid)
    )
