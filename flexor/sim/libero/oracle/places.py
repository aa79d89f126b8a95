"""Where things go: what the predicates on and in ask for, as a point to let go at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.goal import Part
from flexor.sim.libero.oracle import drawer
from flexor.sim.libero.oracle.motion import UP, about, upright
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

LEANING = -0.95  # of the hand's axis along the vertical: above it, it is meant to lean
EDGE = 0.05  # m from the edge of a region that a thing is put at least
STEEP = 6.0  # the way down between walls
SIDE_BY_SIDE = 0.008  # m between things that share a place
LEAN, LEAN_ROOM = 0.33, 0.007  # rad that a thing is let go at where it stands too low; m farther that it then is
SINK = 0.010  # m that LIBERO lets a thing be below a region that contains it


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is let go.

    Attributes:
        point: where the object's frame is to be (x, y) and its lowest point (z), [3] m.
        radius: how near in x and y, m.
        height: how far above, m.
        width: half the room that the object takes on its way, m.
        slope: height over it by the distance from it, on the way down.
        align: an own axis of the object (0 x, 1 y, 2 z) and the direction, [3], that it is to lie along; none, if it
            does not matter.
        lean: how far its top is to lean that way, rad.
    """

    point: NDArray[np.float64]
    radius: float = 0.010
    height: float = 0.008
    width: float = 0.03
    slope: float = 2.5
    align: tuple[int, NDArray[np.float64]] | None = None
    lean: float = 0.0

    def skew(self, stage: Stage, name: str) -> float:
        """How far the object still has to turn about the vertical, rad in [-pi/2, pi/2]."""
        if self.align is None:
            return 0.0
        now, wanted = stage.rotation(name)[:, self.align[0]], self.align[1]
        turn = np.arctan2(wanted[1], wanted[0]) - np.arctan2(now[1], now[0])
        return float((turn + np.pi / 2) % np.pi - np.pi / 2)

    def rotation(self, stage: Stage, name: str) -> NDArray[np.float64]:
        """How the hand is turned on the way there: looking down, or leaning as it took hold."""
        rotation = stage.grip_rotation()
        if rotation[2, 2] > LEANING and not self.lean:
            return rotation
        straight = about(UP, self.skew(stage, name)) @ upright(rotation)
        return about(np.cross(UP, self.align[1]), self.lean) @ straight if self.align and self.lean else straight


def place_for(stage: Stage, shapes: Shapes, part: Part, slot: int = 0, slots: int = 1) -> Place:
    """Where the thing of an on or in part is let go, as the scene is now.

    Args:
        slot, slots: of several things that go to one place, the how manieth this is; they lie side by side.
    """
    point = stage.position(part.place)
    low, high = shapes.box(part.thing)
    across = high[:2] - low[:2]
    width, lane = float(across.max()) / 2, slot - (slots - 1) / 2
    if part.predicate == "in":
        extent = np.abs(stage.rotation(part.place)) @ stage.model.site(part.place).size
        floor = float(point[2] - extent[2])
        spare = max(0.0, float(extent[0] - across[0] / 2))  # along x the hand, opening along y, has room
        point[0] += np.clip(lane * (float(across[0]) + SIDE_BY_SIDE), -spare, spare)
        if stage.joint_names(part.place):
            point += drawer.room_under(stage, part.place, point, width)
        shallow = bool(stage.joint_names(part.place))  # a drawer; into anything else things may be dropped
        height = 0.02 if shallow else 0.10
        narrow = _narrow_axis(stage, shapes, part.thing)
        if narrow is not None and abs(extent[0] - extent[1]) > 0.02:
            align = (narrow, np.eye(3)[int(np.argmin(extent[:2]))])
            if not shallow and _stands_too_low(stage, shapes, part, extent[2]):
                ground = shapes.top_between(point, point, 0.0, (part.thing,))
                return Place(
                    np.append((point + LEAN_ROOM * align[1])[:2], ground), 0.006, 0.010, width, STEEP, align, LEAN
                )
            return Place(np.append(point[:2], floor + 0.02), 0.010, height, width, STEEP, align)
        return Place(np.append(point[:2], floor + 0.02), 0.02, height, width, STEEP)
    if part.place in stage.env.object_sites_dict:
        axis = int(np.argmin(across))
        point[axis] += lane * (float(across[axis]) + SIDE_BY_SIDE)
        if slots == 1:
            point += _towards_arm(stage, point, part.place, max(EDGE, float(across.min()) / 2))
        top = shapes.top_between(point, point, 0.0, (part.thing,))
        return Place(np.append(point[:2], top), 0.012, 0.008, width)
    return Place(point, 0.012, 0.008, width)


def _stands_too_low(stage: Stage, shapes: Shapes, part: Part, half: float) -> bool:
    """Whether a thing's frame would be below a region, of `half` a height, when it stands upright on its floor."""
    point = stage.position(part.place)
    ground = shapes.top_between(point, point, 0.0, (part.thing,))
    return ground - float(shapes.own_box(part.thing)[0][2]) < point[2] - half - SINK


def _narrow_axis(stage: Stage, shapes: Shapes, name: str) -> int | None:
    """The level own axis along which a thing is much narrower than along the other."""
    (near, far), frame = shapes.own_box(name), stage.rotation(name)
    level = sorted((axis for axis in range(3) if abs(frame[2, axis]) < 0.7), key=lambda axis: far[axis] - near[axis])
    return level[0] if far[level[-1]] - near[level[-1]] > 1.5 * (far[level[0]] - near[level[0]]) else None


def _towards_arm(stage: Stage, point: NDArray[np.float64], region: str, edge: float) -> NDArray[np.float64]:
    """The way from the middle of a large region to a place in it, `edge` m inside, that is easier to reach."""
    spare = float((np.abs(stage.rotation(region)) @ stage.model.site(region).size)[:2].min()) - edge
    back = stage.data.body("robot0_link1").xpos - point
    return np.append(back[:2] / np.hypot(*back[:2]), 0.0) * max(0.0, spare)
