"""A proportional step of the gripper as an action: what both of the oracle's ways of working end in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.controller import METRES_PER_UNIT, RADIANS_PER_UNIT, rotation_vector
from flexor.sim.world import World

OPEN, CLOSE = -1.0, 1.0
GAIN = 2.0  # units of action a METRES_PER_UNIT of error
TURN_LIMIT = 0.3  # largest rotation action
DOWNWARD = np.diag([1.0, -1.0, -1.0])  # gripper frame looking straight down
RETREAT_HEIGHT = 0.16  # m


def step_along(world: World, way: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
    """An action [7] along `way` [3] m, scaled as a whole into the action range; turns the gripper to look down.

    It knows its arm: what scales and pushes commands aside is undone, and where they come late it is gentler, since a
    gain that is quick without a delay swings to and fro with one.
    """
    step = GAIN / (1.0 + world.actuation.delay) * way / METRES_PER_UNIT
    step /= max(1.0, float(np.abs(step).max()))
    turn = GAIN * rotation_vector(DOWNWARD @ world.grip_rotation().T) / RADIANS_PER_UNIT
    turn = np.clip(turn, -TURN_LIMIT, TURN_LIMIT)
    motion = world.actuation.undone(np.concatenate([step, turn]))
    motion /= max(1.0, float(np.abs(motion).max()))
    return np.append(motion, gripper).astype(np.float32)


def retreat(world: World) -> NDArray[np.float32]:
    """Straight up with open fingers, to RETREAT_HEIGHT."""
    rise = max(0.0, RETREAT_HEIGHT - world.grip_position()[2])
    return step_along(world, np.array([0.0, 0.0, rise]), OPEN)
