"""Taking hold of an object, and carrying it to where it belongs: the two halves of every pick and place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.goal import Part
from flexor.sim.libero.oracle.grasps import Grasp, best_grasp
from flexor.sim.libero.oracle.motion import CLOSE, OPEN, UP, step_along, upright
from flexor.sim.libero.oracle.places import Place
from flexor.sim.libero.oracle.reach import rising_first
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

CARRY_MARGIN, CARRY_CLEARANCE = 0.02, 0.03  # m beside and below what is carried
LEAST_RISE = 0.04  # m over where it goes
CLOSE_BY = 0.020  # m: no better place is looked for when it lies well already
TOUCH_RISE = 0.03  # m that an object is lifted by when it touches something before it is there
RESTING = 0.015  # m higher than it should be that an object may come to rest
RELEASED = 0.075  # m between fingers that are open
LEAVE_BESIDE, LEAVE_LEANING, LEAVE_ABOVE = (
    0.02,
    0.06,
    0.05,
)  # m from an object that the hand has to be before it does something else
HALF_OPEN, NEARLY_OPEN = 0.03, 0.06  # m between fingers that may leave; that are open
LEANING = -0.8  # of the hand's axis along the vertical: above it, it leans
HOME_HEIGHT = 0.24  # m over the arm's foot
RETREAT = 0.10  # m ahead that the leaving hand is sent
SKEW = 0.12  # rad that an object may lie off the direction that it should
UNDER_MARGIN, UNDER_BEYOND = 0.012, 0.02  # m beside what is over an object, and farther that it is sent
UNDER_ITS_PLACE = 0.08  # m from its place within which something may well be over it: the handles of higher drawers
UNDER_RISE = 0.02  # m that it is lifted meanwhile
STILL = 0.02  # m/s of the fingers: they have closed as far as they can


def is_held(stage: Stage, shapes: Shapes, name: str) -> bool:
    """Whether both fingers touch an object and have come to rest on it, or carry it already."""
    if shapes.hangs(name):
        return True
    return stage.fingers_touching(name) == 2 and float(np.abs(stage.finger_speeds()).max()) < STILL


def grasp_for(stage: Stage, shapes: Shapes, name: str, place: Place) -> Grasp:
    """How an object is taken hold of, so that it can be put there."""
    move = place.point - _foot(stage, shapes, name, place) if place.align is None else None
    return best_grasp(stage, shapes, name, move)


def _foot(stage: Stage, shapes: Shapes, name: str, place: Place) -> NDArray[np.float64]:
    """What is brought to a place: the object's frame, or its middle where it has to fit, and its lowest point."""
    low, high = shapes.box(name)
    middle = stage.position(name) if place.align is None else (low + high) / 2
    return np.append(middle[:2], low[2])


def is_at(stage: Stage, shapes: Shapes, name: str) -> bool:
    """Whether the hand is still about an object that it has let go of."""
    opening = float(stage.finger_speeds() @ (1.0, -1.0)) > STILL
    closed = float(np.ptp(stage.finger_positions())) < NEARLY_OPEN
    if closed and not opening and stage.fingers_touching(name) < 2:
        return False  # it closes already for what comes next
    low, high = shapes.box(name)
    grip = stage.grip_position()
    beside = np.maximum(np.maximum(low[:2] - grip[:2], grip[:2] - high[:2]), 0.0)
    room = LEAVE_BESIDE if stage.grip_rotation()[2, 2] < LEANING else LEAVE_LEANING
    return bool(np.hypot(*beside) < room and grip[2] < high[2] + LEAVE_ABOVE)


def has_arrived(stage: Stage, shapes: Shapes, name: str, place: Place) -> bool:
    """Whether an object is where it is let go: near enough, and low enough or resting on something."""
    way = place.point - _foot(stage, shapes, name, place)
    if np.hypot(*way[:2]) > place.radius or abs(place.skew(stage, name)) > SKEW:
        return False
    return bool(way[2] > -place.height or (way[2] > -place.height - RESTING and shapes.touches(name)))


def is_let_go(stage: Stage, shapes: Shapes, name: str, place: Place) -> bool:
    """Whether an object that has arrived is still between the fingers, which have to open on."""
    gap = float(np.ptp(stage.finger_positions()))
    return gap < RELEASED and stage.fingers_touching(name) > 0 and has_arrived(stage, shapes, name, place)


def carry(stage: Stage, shapes: Shapes, part: Part, place: Place) -> NDArray[np.float32]:
    """One step of a held object towards where it belongs; the fingers open when it is there."""
    name = part.thing
    here = _foot(stage, shapes, name, place)
    way = place.point - here
    left = float(np.hypot(*way[:2]))
    touching = shapes.touches(name)
    lies_well = touching and left < CLOSE_BY and part.holds(stage)
    if lies_well or has_arrived(stage, shapes, name, place):
        return step_along(stage, _off_finger(stage, shapes, name), OPEN, place.rotation(stage, name))
    out = shapes.way_out(name, UNDER_MARGIN)
    if out.any() and left > UNDER_ITS_PLACE:
        way = (
            out * (1.0 + UNDER_BEYOND / np.abs(out).sum()) + UNDER_RISE * UP * touching
        )  # from under what is over it, before it rises
        return step_along(stage, way, CLOSE, place.rotation(stage, name))
    over = shapes.top_between(here, place.point, CARRY_MARGIN + place.width, (name,)) + CARRY_CLEARANCE - place.point[2]
    off = left - 0.8 * place.radius + 0.1 * max(0.0, abs(place.skew(stage, name)) - SKEW)
    way[2] += np.clip(place.slope * off, 0.0, max(over, LEAST_RISE))
    if touching:
        way[2] = max(way[2], TOUCH_RISE)  # it has come down too early, or has not left yet
    return step_along(stage, rising_first(way), CLOSE, place.rotation(stage, name))


def _off_finger(stage: Stage, shapes: Shapes, name: str) -> NDArray[np.float64]:
    """The way of open fingers off an object that still hangs on one of them: towards its middle, [3] m."""
    if float(np.ptp(stage.finger_positions())) < RELEASED or not shapes.hangs(name):
        return np.zeros(3)
    low, high = shapes.box(name)
    axis = stage.opening_axis()
    return axis * float(((low + high) / 2 - stage.grip_position()) @ axis)


def leave(stage: Stage, name: str) -> NDArray[np.float32]:
    """Straight up, or back along a leaning hand, with open fingers and turned as it is, from an object let go of."""
    opened = float(np.ptp(stage.finger_positions())) > (NEARLY_OPEN if stage.fingers_touching(name) else HALF_OPEN)
    axis = stage.grip_rotation()[:, 2]
    away = UP if axis[2] < LEANING else -axis
    return step_along(stage, RETREAT * away * opened, OPEN, stage.grip_rotation())


def retreat(stage: Stage) -> NDArray[np.float32]:
    """Straight up with open fingers, and upright, until the hand is as high as when it began."""
    rise = HOME_HEIGHT - (stage.grip_position()[2] - stage.data.body("robot0_base").xpos[2])
    return step_along(stage, float(np.clip(rise, 0.0, RETREAT)) * UP, OPEN, upright(stage.grip_rotation()))
