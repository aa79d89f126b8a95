"""Turning a stove's knob."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.oracle.grasps import Grasp
from flexor.sim.libero.oracle.motion import CLOSE, about, step_along, turned
from flexor.sim.libero.oracle.reach import reach
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

TURNED_ON, TURNED_OFF = 0.8, -0.003  # rad of the knob's joint at which turning ends
AHEAD = 0.5  # rad ahead of the knob that the hand is turned to
RIDGE = 0.030  # m above the knob's frame: what the fingers take hold of
LEAN = 0.35  # rad that the hand leans away from the arm along the ridge: upright, so near to its foot, it folds up
HELD = 0.035  # m between the fingers on the ridge, at most


def turn_on(stage: Stage, shapes: Shapes, name: str) -> NDArray[np.float32]:
    """One step towards a stove that is on."""
    return _turn(stage, shapes, name, AHEAD)


def turn_off(stage: Stage, shapes: Shapes, name: str) -> NDArray[np.float32]:
    """One step towards a stove that is off."""
    return _turn(stage, shapes, name, -AHEAD)


def holds_knob(stage: Stage, name: str) -> bool:
    """Whether both fingers are closed on the knob's ridge."""
    gap = float(np.ptp(stage.finger_positions()))
    near = np.linalg.norm(_ridge(stage, name) - stage.grip_position()) < 0.03
    return bool(near and gap < HELD and stage.fingers_touching(name) > 0)


def at_knob(stage: Stage, name: str) -> bool:
    """Whether the hand is still about the knob."""
    way = stage.grip_position() - _ridge(stage, name)
    return bool(np.hypot(*way[:2]) < 0.03 and way[2] < 0.05)


def _ridge(stage: Stage, name: str) -> NDArray[np.float64]:
    joint = stage.model.joint(stage.joint_names(name)[0])
    return stage.data.xpos[joint.bodyid[0]] + np.array([0.0, 0.0, RIDGE])


def _turn(stage: Stage, shapes: Shapes, name: str, ahead: float) -> NDArray[np.float32]:
    point, angle = _ridge(stage, name), float(stage.opening(name)[0])
    if holds_knob(stage, name):
        return step_along(stage, point - stage.grip_position(), CLOSE, _leaning(angle + ahead), turn_limit=0.5)
    return reach(stage, shapes, Grasp(point, _leaning(angle), angle), name)


def _leaning(angle: float) -> NDArray[np.float64]:
    """The hand at a ridge that is turned by so much, rad."""
    upright = turned(angle)
    return about(upright[:, 0], LEAN) @ upright
