"""Pulling a drawer open by its handle, and pushing it shut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.oracle.grasps import Grasp
from flexor.sim.libero.oracle.motion import CLOSE, DOWN, UP, about, step_along
from flexor.sim.libero.oracle.reach import approach, reach
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

OPEN, WIDE_ENOUGH = -0.141, -0.110  # m of the drawer's joint: open, of use
HANDLE_OUT, MOST_OUT = 0.009, 0.040  # m that handles stick out beyond their middles; m off a drawer's middle at most
BEYOND = 0.012  # m that it is pulled beyond
PULL_STEP = 0.04  # m ahead of the handle that it is pulled or pushed to
CLEAR = 0.07  # m before the handle at which the hand is free to turn
BAR = 0.025  # m between the fingers on a handle, at most
LEVEL_TILT, PUSH_TILT = np.pi / 2, 0.6  # rad of the hand from looking down: to grasp a handle, to push it
PUSH_BEFORE = 0.02  # m farther out at which they come down
PUSH_AHEAD = 0.016  # m before the handle's middle that the closed fingers push from


@dataclass(frozen=True, slots=True)
class Handle:
    """A drawer's handle as it is now.

    Attributes:
        point: its middle, [3] m.
        outward: the way the drawer opens, [3].
    """

    point: NDArray[np.float64]
    outward: NDArray[np.float64]


def is_drawer(stage: Stage, name: str) -> bool:
    """Whether a name is a drawer's region."""
    return name in stage.env.object_sites_dict and bool(stage.joint_names(name))


def handle_of(stage: Stage, region: str) -> Handle:
    """The handle of the drawer with this region: the part of it that sticks out farthest."""
    joint = stage.model.joint(stage.joint_names(region)[0])
    outward = -stage.data.xaxis[joint.id]
    geoms = np.flatnonzero((stage.model.geom_bodyid == joint.bodyid[0]) & (stage.model.geom_contype != 0))
    places = stage.data.geom_xpos[geoms]
    return Handle(places[int(np.argmax(places @ outward))].copy(), outward.copy())


def room_under(stage: Stage, region: str, point: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """The way from a point over an open drawer, outwards, at which a thing of half a `width` passes higher handles."""
    mine = handle_of(stage, region)
    higher = [
        handle.point
        for handle in (handle_of(stage, other) for other in sisters(stage, region))
        if handle.point[2] > mine.point[2]
    ]
    lacking = [float((handle - point) @ mine.outward) + HANDLE_OUT + width for handle in higher]
    return mine.outward * float(np.clip(max(lacking, default=0.0), 0.0, MOST_OUT))


def sisters(stage: Stage, region: str) -> list[str]:
    """The other drawers of the same cabinet."""
    return [
        name
        for name in stage.env.object_sites_dict
        if name != region and stage.body(name) == stage.body(region) and stage.joint_names(name)
    ]


def tilted(outward: NDArray[np.float64], tilt: float, across: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The hand turned from looking down towards looking against `outward`.

    Args:
        across: how the hand is turned now, if its fingers are to open across the plane in which it is tilted, of which
            there are two ways; of nothing, they open in that plane.
    """
    yaw = float(np.arctan2(outward[0], -outward[1]))  # about the vertical, from looking along y
    looking = about(UP, yaw) @ about(np.array([1.0, 0.0, 0.0]), tilt) @ DOWN
    if across is not None:
        looking = looking[:, [1, 0, 2]] * np.array([1.0, -1.0, 1.0])
    rolled = looking * np.array([-1.0, -1.0, 1.0])  # the fingers do not mind half a turn about the hand's axis
    near = DOWN if across is None else across
    return max(looking, rolled, key=lambda rotation: float(np.trace(rotation @ near.T)))


def holds_handle(stage: Stage, region: str) -> bool:
    """Whether both fingers are closed on the drawer's handle."""
    gap = float(np.ptp(stage.finger_positions()))
    near = np.linalg.norm(handle_of(stage, region).point - stage.grip_position()) < 0.03
    return bool(near and gap < BAR and stage.fingers_touching(region) > 0)


def pull(stage: Stage, shapes: Shapes, region: str) -> NDArray[np.float32]:
    """One step towards an open drawer."""
    handle = handle_of(stage, region)
    rotation = tilted(handle.outward, LEVEL_TILT)
    if holds_handle(stage, region):
        return step_along(stage, PULL_STEP * handle.outward, CLOSE, rotation)
    return reach(stage, shapes, Grasp(handle.point, rotation, 0.0), region)


def push(stage: Stage, shapes: Shapes, region: str) -> NDArray[np.float32]:
    """One step towards a shut drawer, with closed fingers against its handle."""
    handle = handle_of(stage, region)
    rotation = tilted(handle.outward, PUSH_TILT, stage.grip_rotation())
    before = handle.point + PUSH_AHEAD * handle.outward
    way = before - stage.grip_position()
    aside = way - (way @ handle.outward) * handle.outward
    if np.linalg.norm(aside) < 0.015 and way @ handle.outward < 0.01:
        return step_along(stage, aside - PULL_STEP * handle.outward, CLOSE, rotation)
    return approach(stage, shapes, Grasp(before + PUSH_BEFORE * handle.outward, rotation, 0.0), region, CLOSE, -UP)


def at_handle(stage: Stage, region: str) -> bool:
    """Whether the hand is still about the drawer's handle."""
    handle = handle_of(stage, region)
    way = stage.grip_position() - handle.point
    beside = way - (way @ handle.outward) * handle.outward
    return bool(way @ handle.outward < CLEAR and np.linalg.norm(beside) < 0.05 and stage.grip_rotation()[2, 2] > -0.7)


def let_go(stage: Stage) -> NDArray[np.float32]:
    """One step away from a handle: the fingers open, then the hand goes back along its axis."""
    axis = stage.grip_rotation()[:, 2]
    gap = float(np.ptp(stage.finger_positions()))
    return step_along(stage, -0.05 * axis * (gap > 0.05), -CLOSE, stage.grip_rotation())
