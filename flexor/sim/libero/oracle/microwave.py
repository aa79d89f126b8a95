"""Putting a mug into a microwave by its handle, and pushing the microwave's door shut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.goal import Part
from flexor.sim.libero.oracle.drawer import tilted
from flexor.sim.libero.oracle.grasps import Grasp, kind
from flexor.sim.libero.oracle.motion import CLOSE, DOWN, OPEN, UP, step_along
from flexor.sim.libero.oracle.reach import approach, reach, rising_first
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

KIND = "microwave"
INWARD = np.array([0.0, 1.0, 0.0])  # in the microwave's frame
SEAT = np.array([-0.040, -0.045, 0.028])  # m, in that frame: where a mug's foot is put
TILT = 1.05  # rad of the hand from looking down to looking in
BEFORE = 0.16  # m before the seat from which a mug is brought in
FOOT_ROOM = 0.012  # m over the floor while it goes in
HANDLES = {"white_yellow_mug": (0.062, 0.0, 0.058), "porcelain_mug": (-0.058, 0.0, 0.056)}  # m, in a mug's own frame
DOOR_POINT = np.array([0.20, -0.037, 0.083])  # m, in the door's frame: before its outer face, near its far upper corner
DOOR_BEFORE, DOOR_AHEAD = 0.06, 0.04  # m before the face where the hand comes down; ahead of the hand when it pushes


def is_microwave(stage: Stage, place: str) -> bool:
    """Whether a place is the inside of a microwave."""
    region = stage.env.object_sites_dict.get(place)
    return region is not None and kind(str(region.parent_name)) == KIND


def grasp_handle(stage: Stage, shapes: Shapes, part: Part) -> NDArray[np.float32]:
    """One step towards having a mug by its handle, as it can be put in."""
    point = stage.position(part.thing) + stage.rotation(part.thing) @ np.array(HANDLES[kind(part.thing)])
    return reach(stage, shapes, Grasp(point, _looking_in(stage, part.place), 0.0), part.thing)


def is_seated(stage: Stage, shapes: Shapes, part: Part) -> bool:
    """Whether a mug is where it is let go: deep enough, and low or resting on something."""
    deep, aside = _way_in(stage, part)[1:]
    level = float(np.hypot(aside[0], aside[1]))
    return deep < 0.01 and level < 0.03 and (abs(float(aside[2])) < 0.01 or shapes.touches(part.thing))


def insert(stage: Stage, shapes: Shapes, part: Part) -> NDArray[np.float32]:
    """One step of a mug in the hand towards its seat; the fingers open when it is there."""
    rotation = _looking_in(stage, part.place)
    if is_seated(stage, shapes, part):
        return step_along(stage, np.zeros(3), OPEN, rotation)
    inward, deep, aside = _way_in(stage, part)
    way = aside + deep * inward + FOOT_ROOM * UP * (deep > 0.03)
    way -= inward * np.clip(3.0 * (float(np.linalg.norm(aside)) - 0.01), 0.0, BEFORE)
    return step_along(stage, rising_first(way), CLOSE, rotation)


def _way_in(stage: Stage, part: Part) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """The direction in, how much deeper the mug has to go, m, and how far it is aside and over its seat, [3] m."""
    body = stage.body(part.place)
    frame, origin = stage.data.xmat[body].reshape(3, 3), stage.data.xpos[body]
    inward = frame @ INWARD
    way = origin + frame @ SEAT - stage.position(part.thing)
    deep = float(way @ inward)
    return inward, deep, way - deep * inward


def close_door(stage: Stage, shapes: Shapes, name: str) -> NDArray[np.float32]:
    """One step towards a shut door."""
    joint = stage.model.joint(stage.joint_names(name)[0])
    door = int(joint.bodyid[0])
    frame, origin = stage.data.xmat[door].reshape(3, 3), stage.data.xpos[door]
    here = (stage.grip_position() - origin) @ frame  # as the door sees it
    if abs(here[0] - DOOR_POINT[0]) < 0.03 and abs(here[2] - DOOR_POINT[2]) < 0.02 and here[1] < DOOR_POINT[1] + 0.02:
        way = frame @ (DOOR_POINT - here + np.array([0.0, DOOR_AHEAD, 0.0]))
        return step_along(stage, way, CLOSE, DOWN)
    point = origin + frame @ (DOOR_POINT - np.array([0.0, DOOR_BEFORE, 0.0]))
    return approach(stage, shapes, Grasp(point, DOWN, 0.0), "", CLOSE)


def _looking_in(stage: Stage, place: str) -> NDArray[np.float64]:
    frame = stage.data.xmat[stage.body(place)].reshape(3, 3)
    return tilted(-(frame @ INWARD), TILT, stage.grip_rotation())
