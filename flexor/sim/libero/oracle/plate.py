"""Pushing a plate over the table: its rim between the fingers, which steers it better than any push from behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.goal import Part
from flexor.sim.libero.oracle.grasps import best_grasp, kind
from flexor.sim.libero.oracle.motion import CLOSE, step_along, upright
from flexor.sim.libero.oracle.reach import reach
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

KIND = "plate"
AHEAD = 0.035  # m ahead that the hand is sent while it pushes
ENOUGH = 0.015  # m from the middle of its place
PINCHED = (0.004, 0.03)  # m between fingers that have the rim
SLIDE = 0.02  # m that it is kept off what it has run into


def is_pushed(stage: Stage, part: Part) -> bool:
    """Whether a part is about a plate that has to go somewhere on the table."""
    region = stage.env.object_sites_dict.get(part.place)
    return part.predicate == "on" and kind(part.thing) == KIND and region is not None and region.parent_name is None


def is_there(stage: Stage, part: Part) -> bool:
    """Whether the plate need not be pushed on."""
    return float(np.hypot(*(stage.position(part.place) - stage.position(part.thing))[:2])) < ENOUGH


def is_pinched(stage: Stage, part: Part) -> bool:
    """Whether the rim is between the fingers."""
    least, most = PINCHED
    return stage.fingers_touching(part.thing) > 0 and least < float(np.ptp(stage.finger_positions())) < most


def push(stage: Stage, shapes: Shapes, part: Part) -> NDArray[np.float32]:
    """One step towards the plate being there."""
    if not is_pinched(stage, part):
        return reach(stage, shapes, best_grasp(stage, shapes, part.thing), part.thing)
    way = stage.position(part.place) - stage.position(part.thing)
    way *= min(1.0, AHEAD / np.hypot(*way[:2]))
    way[2] = 0.0
    way += SLIDE * shapes.way_off(part.thing)
    return step_along(stage, way, CLOSE, upright(stage.grip_rotation()))
