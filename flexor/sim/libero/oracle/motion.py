"""A proportional step of the gripper towards a pose, as an action: what every skill ends in."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flexor.sim.controller import METRES_PER_UNIT, RADIANS_PER_UNIT, rotation_vector
from flexor.sim.libero.stage import Stage

OPEN, CLOSE = -1.0, 1.0
GAIN = 2.0  # units of action a METRES_PER_UNIT of error
LEAD = 0.05  # s that the hand is taken to go on as it does: it comes to rest without swinging
TURN_LIMIT = 0.8  # largest rotation action
UP = np.array([0.0, 0.0, 1.0])
ELBOW = 3  # of the arm's joints
STRAIGHTENING, STRAIGHT, FOLDING, FOLDED = -0.65, -0.50, -3.02, -3.06  # rad of it at which the arm gets stuck, and is
STRETCHED = (-1.3, -1.0)  # rad of it over which a hand that swings about is drawn in: its wrist would go too far
DRAW, FREE_TURN = 0.05, 0.3  # m and rad ahead that a stuck hand is sent
DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # the hand looking down, fingers along y


def about(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """The rotation by `angle` rad about a unit axis [3]."""
    x, y, z = axis.tolist()  # plain numbers: an expert asks for dozens of rotations a step
    sine, cosine = math.sin(angle), math.cos(angle)
    rest = 1.0 - cosine
    return np.array(
        [
            [cosine + x * x * rest, x * y * rest - z * sine, x * z * rest + y * sine],
            [y * x * rest + z * sine, cosine + y * y * rest, y * z * rest - x * sine],
            [z * x * rest - y * sine, z * y * rest + x * sine, cosine + z * z * rest],
        ]
    )


def turned(yaw: float) -> NDArray[np.float64]:
    """The hand looking down, turned about the vertical: its fingers open along (-sin yaw, cos yaw)."""
    return about(UP, yaw) @ DOWN


def upright(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The hand looking down, turned about the vertical as it is."""
    return turned(float(np.arctan2(-rotation[0, 0], rotation[1, 0])))


def step_along(
    stage: Stage,
    way: NDArray[np.float64],
    gripper: float,
    rotation: NDArray[np.float64] = DOWN,
    gain: float = GAIN,
    turn_limit: float = TURN_LIMIT,
) -> NDArray[np.float32]:
    """An action [7] along `way` [3] m and towards `rotation` [3, 3], each scaled as a whole into its range."""
    way, rotation = _bent(stage, way, rotation)
    step = gain * (way - LEAD * stage.grip_velocity()) / METRES_PER_UNIT
    step /= max(1.0, float(np.abs(step).max()))
    turn = GAIN * rotation_vector(rotation @ stage.grip_rotation().T) / RADIANS_PER_UNIT
    turn *= turn_limit / max(turn_limit, float(np.abs(turn).max()))
    return np.concatenate([step, turn, [gripper]]).astype(np.float32)


def turn_left(stage: Stage, rotation: NDArray[np.float64]) -> float:
    """How far the hand is from `rotation`, rad."""
    return float(np.linalg.norm(rotation_vector(rotation @ stage.grip_rotation().T)))


def drawn_in(stage: Stage) -> NDArray[np.float64]:
    """The way towards the arm's foot for a hand that swings about with its arm stretched, [3] m."""
    inward = stage.data.body("robot0_link1").xpos - stage.grip_position()
    inward = np.append(inward[:2] / np.hypot(*inward[:2]), 0.0)
    return DRAW * float(np.interp(stage.joint_positions()[ELBOW], STRETCHED, (0.0, 1.0))) * inward


def _bent(
    stage: Stage, way: NDArray[np.float64], rotation: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same way and rotation, unless the elbow is straight or folded up, where the arm is stuck wherever it is sent.

    A straight one comes free when the hand is drawn back and turned to look at the arm's foot, a folded one by the
    opposite, and a rise.
    """
    elbow = float(stage.joint_positions()[ELBOW])
    straight = float(np.clip((elbow - STRAIGHTENING) / (STRAIGHT - STRAIGHTENING), 0.0, 1.0))
    folded = float(np.clip((elbow - FOLDING) / (FOLDED - FOLDING), 0.0, 1.0))
    stuck = straight + folded  # never both
    if not stuck:
        return way, rotation
    outward = stage.grip_position() - stage.data.body("robot0_link1").xpos
    outward = np.append(outward[:2] / np.hypot(*outward[:2]), 0.0)
    free = DRAW * (folded * (outward + 0.6 * UP) - straight * outward)
    turn = about(np.cross(UP, outward), FREE_TURN * (straight - folded))
    return way * (1.0 - stuck) + free, turn @ stage.grip_rotation()
