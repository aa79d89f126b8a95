"""Moment: the simulator after one control step, as far as failures are judged by it."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim.failure.scene import Aim, WatchedScene


@dataclass(frozen=True, slots=True)
class Moment:
    """The state after control step `step`.

    Attributes:
        step: counted from 0, as the recorder counts.
        aim: what is to be done.
        item, target, grip: middles of the item and the target and the point between the finger tips, [3] m.
        reach: from the grip to the middle of the item's nearest shape, m.
        closing: whether the gripper is commanded closed.
        gripped: what stops both closing fingers. Closed fingers that press on a thing from above grip nothing.
        pressed: force (N) by (who presses, on what): the robot's bodies on everything but the item, and an item that
            is not worked where it stands on everything but the ground, the target and whatever else may be moved.
            What is left out is the work itself.
        touched: force (N) of the whole robot on each other thing, the item among them.
        movable: middle of each thing that can be moved away and should not be, [3] m.
    """

    step: int
    aim: Aim
    item: NDArray[np.float64]
    target: NDArray[np.float64]
    grip: NDArray[np.float64]
    reach: float
    closing: bool
    gripped: str | None
    pressed: Mapping[tuple[str, str], float]
    touched: Mapping[str, float]
    movable: Mapping[str, NDArray[np.float64]]

    @property
    def held(self) -> bool:
        """Whether the item is what is gripped."""
        return self.gripped == self.aim.item

    @property
    def goal_distance(self) -> float:
        """Horizontally from the item to where it should be, m."""
        return float(np.hypot(*(self.target - self.item)[:2]))


class MomentReader:
    """Reads moments of one episode; changes nothing in the simulator."""

    def __init__(self, scene: WatchedScene) -> None:
        """Begin at the state as it is: the gripper counts as commanded open if its target is not closed."""
        self._scene, self._anatomy = scene, scene.anatomy
        self._owners = np.array(self._anatomy.owners)
        self._movable = {n: body for n, body in self._anatomy.movable.items() if n not in self._anatomy.about}
        self._solid: dict[str, NDArray[np.intp]] = {}
        self._finger_target = scene.finger_target()
        self._closing = self._finger_target <= 0.0
        self._force = np.zeros(6)

    def read(self, step: int) -> Moment:
        """The state now, after control step `step`."""
        scene, data = self._scene, self._anatomy.data
        closing = self._commanded_closed()
        pairs = data.contact.geom
        mine = self._anatomy.robot[pairs]
        by_robot, fingers = self._robot_contacts(pairs, mine)
        gripping = closing and scene.finger_gap() > self._anatomy.smallest_gap
        gripped = next((thing for thing, which in fingers.items() if gripping and len(which) == 2), None)
        touched: dict[str, float] = {}
        for (_, thing), force in by_robot.items():
            touched[thing] = touched.get(thing, 0.0) + force
        aim = scene.aim(gripped, touched)
        pressed = {pair: force for pair, force in by_robot.items() if pair[1] != aim.item}
        if aim.way != "work":
            pressed |= self._item_contacts(pairs, mine, aim)
        grip = scene.grip_position()
        places = data.geom_xpos[self._solid_geoms(aim.item)]
        return Moment(
            step=step,
            aim=aim,
            item=scene.item_position(),
            target=scene.target_position(),
            grip=grip,
            reach=float(np.sqrt(((places - grip) ** 2).sum(axis=1).min())),
            closing=closing,
            gripped=gripped,
            pressed=pressed,
            touched=touched,
            movable={name: data.xpos[body].copy() for name, body in self._movable.items()},
        )

    def _commanded_closed(self) -> bool:
        target = self._scene.finger_target()
        if target != self._finger_target or target <= 0.0:
            self._closing = target <= 0.0 or target < self._finger_target
        self._finger_target = target
        return self._closing

    def _robot_contacts(
        self, pairs: NDArray[np.int32], mine: NDArray[np.bool_]
    ) -> tuple[dict[tuple[str, str], float], dict[str, set[int]]]:
        """Forces (N) by (part of the robot, thing), and which fingers touch each thing."""
        owners, fingers = self._anatomy.owners, self._anatomy.fingers
        forces: dict[tuple[str, str], float] = {}
        touching: dict[str, set[int]] = {}
        for index in np.flatnonzero(mine[:, 0] != mine[:, 1]).tolist():
            first = int(mine[index, 1])
            part, other = int(pairs[index, first]), int(pairs[index, 1 - first])
            pair = owners[part], owners[other]
            forces[pair] = forces.get(pair, 0.0) + self._newton(index)
            if part in fingers:
                touching.setdefault(pair[1], set()).add(fingers[part])
        return forces, touching

    def _item_contacts(
        self, pairs: NDArray[np.int32], mine: NDArray[np.bool_], aim: Aim
    ) -> dict[tuple[str, str], float]:
        """Forces (N) of the item on what it should not press on."""
        anatomy = self._anatomy
        its = self._owners[pairs] == aim.item
        forces: dict[tuple[str, str], float] = {}
        for index in np.flatnonzero((its[:, 0] != its[:, 1]) & ~mine.any(axis=1)).tolist():
            on = anatomy.owners[pairs[index, int(its[index, 0])]]
            if on != aim.target and on not in anatomy.ground and on not in anatomy.about:
                forces[aim.item, on] = forces.get((aim.item, on), 0.0) + self._newton(index)
        return forces

    def _newton(self, contact: int) -> float:
        mujoco.mj_contactForce(self._anatomy.model, self._anatomy.data, contact, self._force)
        return float(np.linalg.norm(self._force[:3]))

    def _solid_geoms(self, thing: str) -> NDArray[np.intp]:
        """The shapes of a thing that others bump into, or all where nothing does."""
        if thing not in self._solid:
            model, its = self._anatomy.model, self._owners == thing
            solid = its & ((model.geom_contype != 0) | (model.geom_conaffinity != 0))
            self._solid[thing] = np.flatnonzero(solid if solid.any() else its)
        return self._solid[thing]
