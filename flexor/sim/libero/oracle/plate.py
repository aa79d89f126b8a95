"""Pushing a plate over the table: closed fingers in its hollow take it along, which steers it better than its rim."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.goal import Part
from flexor.sim.libero.oracle.grasps import Grasp, kind
from flexor.sim.libero.oracle.motion import CLOSE, step_along, upright
from flexor.sim.libero.oracle.reach import approach
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

KIND = "plate"
HOLLOW = 0.030  # m from a plate's middle towards where it goes: the foot of its rim, against which the fingers push
HEIGHT, PRESS = 0.012, 0.006  # m of the grip over the plate's frame; deeper that it is sent
AHEAD = 0.03  # m ahead that the hand is sent while it pushes
ENOUGH = 0.012  # m from the middle of its place


def is_pushed(stage: Stage, part: Part) -> bool:
    """Whether a part is about a plate that has to go somewhere on the table."""
    region = stage.env.object_sites_dict.get(part.place)
    return part.predicate == "on" and kind(part.thing) == KIND and region is not None and region.parent_name is None


def is_there(stage: Stage, part: Part) -> bool:
    """Whether the plate need not be pushed on."""
    return float(np.hypot(*(stage.position(part.place) - stage.position(part.thing))[:2])) < ENOUGH


def is_in_plate(stage: Stage, part: Part) -> bool:
    """Whether the fingers are down in the plate."""
    way = stage.grip_position() - stage.position(part.thing)
    return bool(np.hypot(*way[:2]) < HOLLOW + 0.03 and way[2] < HEIGHT + 0.012)


def push(stage: Stage, shapes: Shapes, part: Part) -> NDArray[np.float32]:
    """One step towards the plate being there."""
    middle, grip = stage.position(part.thing), stage.grip_position()
    way = (stage.position(part.place) - middle)[:2]
    left = float(np.hypot(*way))
    along = np.append(way / max(left, 1e-6), 0.0)
    point = middle + HOLLOW * along + np.array([0.0, 0.0, HEIGHT])
    rotation = upright(stage.grip_rotation())
    off = point - grip
    if is_in_plate(stage, part) and np.hypot(*off[:2]) < 0.03:
        aside = off - (off @ along) * along
        return step_along(stage, aside + min(AHEAD, left + 0.005) * along - np.array([0.0, 0.0, PRESS]), CLOSE, rotation)
    return approach(stage, shapes, Grasp(point, rotation, 0.0), part.thing, CLOSE)
