"""Bringing the open hand to a grasp and closing it: over everything on the way, down a funnel along the hand's axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.oracle.grasps import Grasp
from flexor.sim.libero.oracle.motion import CLOSE, OPEN, drawn_in, step_along, turn_left
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

NEAR, DEEP = 0.010, 0.008  # m off the hand's axis and along it at which the fingers begin to close
NEAR_CLOSING, DEEP_CLOSING = 0.030, 0.020  # m: how far the thing may shift while they close
SKEW = 0.15  # rad that the hand may still be turned wrongly
FUNNEL_RADIUS, FUNNEL_SLOPE = 0.004, 2.5  # how far before the grasp by how far off its axis
APPROACH = 0.08  # m before the grasp at which the hand comes, or farther if something is in its way
LEAN = 0.7  # rad that the hand may look elsewhere while it goes
MARGIN, CLEARANCE = 0.04, 0.03  # m beside and below the fingers on their way
HAND_MARGIN, PALM_HEIGHT = 0.10, 0.031  # m beside the hand on its way; m of the hand over the point between the fingers
LAG_LENGTH = 0.04  # m too low at which the hand does not move on before it has risen
CLOSED, HALF_CLOSED = 0.004, 0.07  # m between the fingers


def reach(stage: Stage, shapes: Shapes, aim: Grasp, name: str) -> NDArray[np.float32]:
    """One step towards having hold of something that belongs to the object or fixture `name`."""
    way, axis = aim.point - stage.grip_position(), aim.rotation[:, 2]
    deep = float(way @ axis)
    off = float(np.linalg.norm(way - deep * axis))
    closing = CLOSED < float(np.ptp(stage.finger_positions())) < HALF_CLOSED
    near, depth = (NEAR_CLOSING, DEEP_CLOSING) if closing else (NEAR, DEEP)
    if off < near and abs(deep) < depth and turn_left(stage, aim.rotation) < SKEW + 0.25 * closing:
        if stage.fingers_touching(name) == 1:  # no finger reaches beyond the middle: bring what it has met there
            way = deep * axis + stage.opening_axis() * float(stage.finger_positions().sum())
        return step_along(stage, way, CLOSE, aim.rotation)
    return approach(stage, shapes, aim, name)


def approach(
    stage: Stage,
    shapes: Shapes,
    aim: Grasp,
    name: str,
    gripper: float = OPEN,
    axis: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """One step of the hand towards a grasp, or with a closed `gripper` towards a push, along an axis (the hand's).

    Args:
        name: the object or fixture that it goes to, which is not in the way; of none, an empty string.
    """
    grip, axis = stage.grip_position(), aim.rotation[:, 2] if axis is None else axis
    way = aim.point - grip
    off = float(np.linalg.norm(way - (way @ axis) * axis))
    turn = turn_left(stage, aim.rotation)
    off += max(0.0, turn - 0.1) * 0.1
    standoff = APPROACH
    if axis[2] < -0.8:
        mine = (name,) * bool(name)
        fingers = shapes.top_between(grip, aim.point, MARGIN, mine) + CLEARANCE
        palm = shapes.top_between(grip, aim.point, HAND_MARGIN, mine) + CLEARANCE - PALM_HEIGHT
        standoff = max(APPROACH, fingers - aim.point[2], palm - aim.point[2])
    way = way - axis * np.clip(FUNNEL_SLOPE * (off - FUNNEL_RADIUS), 0.0, standoff)
    lean = float(np.arccos(np.clip(aim.rotation[:, 2] @ stage.grip_rotation()[:, 2], -1.0, 1.0)))
    going = float(np.clip((LEAN - lean) / LEAN, 0.0, 1.0))  # a hand that looks elsewhere swings about before it goes
    way = going * way + (1.0 - going) * drawn_in(stage)
    return step_along(stage, rising_first(way), gripper, aim.rotation)


def rising_first(way: NDArray[np.float64]) -> NDArray[np.float64]:
    """Too low for the distance: rise before moving on."""
    lag = max(0.0, float(way[2]))
    return way * np.array([*np.full(2, np.clip(1.0 - lag / LAG_LENGTH, 0.0, 1.0)), 1.0])
