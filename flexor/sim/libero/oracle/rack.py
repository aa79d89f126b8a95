"""Laying a bottle on a wine rack: taken from the side, so that the hand looks down when the bottle lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.goal import Part
from flexor.sim.libero.oracle.drawer import tilted
from flexor.sim.libero.oracle.grasps import Grasp, kind
from flexor.sim.libero.oracle.motion import CLOSE, OPEN, about, step_along
from flexor.sim.libero.oracle.reach import reach, rising_first
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

KIND = "wine_rack"
GRIP_HEIGHT = 0.065  # m from the bottle's foot
TILT = 0.8  # rad of the hand from looking down when it takes hold; lying, the bottle is tilted by 1.05
FOOT = (0.030, 0.021)  # m up the slope and off it, from the rack's region: where the bottle's foot comes
OVER, FUNNEL = 0.10, 2.0  # m over the slope at which it comes; height by distance
ALIGNED = 0.25  # rad


def is_rack(stage: Stage, place: str) -> bool:
    """Whether a place is a wine rack's."""
    region = stage.env.object_sites_dict.get(place)
    return region is not None and region.parent_name is not None and kind(str(region.parent_name)) == KIND


def grasp_bottle(stage: Stage, shapes: Shapes, part: Part) -> NDArray[np.float32]:
    """One step towards having an upright bottle from the side that will be its upper one."""
    _, normal = _slope(stage, part.place)
    outward = np.array([*normal[:2], 0.0]) / np.hypot(*normal[:2])
    point = stage.position(part.thing) + GRIP_HEIGHT * stage.rotation(part.thing)[:, 2]
    return reach(stage, shapes, Grasp(point, tilted(outward, TILT, stage.grip_rotation()), 0.0), part.thing)


def lies(stage: Stage, shapes: Shapes, part: Part) -> bool:
    """Whether the bottle can be let go of."""
    way, skew = _way(stage, part)
    return bool(np.linalg.norm(way) < 0.03 and np.linalg.norm(skew) < ALIGNED + 0.15 and shapes.touches(part.thing))


def lay(stage: Stage, shapes: Shapes, part: Part) -> NDArray[np.float32]:
    """One step of a bottle in the hand towards lying on the rack; the fingers open when it does."""
    way, skew = _way(stage, part)
    angle = float(np.linalg.norm(skew))
    rotation = about(skew / max(angle, 1e-6), angle) @ stage.grip_rotation()
    if lies(stage, shapes, part):
        return step_along(stage, np.zeros(3), OPEN, stage.grip_rotation())
    _, normal = _slope(stage, part.place)
    aside = way - (way @ normal) * normal
    off = float(np.linalg.norm(aside)) + 0.1 * max(0.0, angle - ALIGNED)
    way = way + normal * np.clip(FUNNEL * (off - 0.008), 0.0, OVER)
    return step_along(stage, rising_first(way), CLOSE, rotation)


def _slope(stage: Stage, place: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Up the rack's slope, and off it: [3] each."""
    frame = stage.rotation(place)
    return frame[:, 2], -frame[:, 1]


def _way(stage: Stage, part: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the bottle's foot has to go, [3] m, and how it has to turn, axis-angle [3]."""
    slope, normal = _slope(stage, part.place)
    foot = stage.position(part.place) + FOOT[0] * slope + FOOT[1] * normal
    axis = stage.rotation(part.thing)[:, 2]
    cross = np.cross(axis, slope)
    size = float(np.linalg.norm(cross))
    skew = cross / max(size, 1e-6) * np.arctan2(size, float(axis @ slope))
    return foot - stage.position(part.thing), skew
