"""The scripted expert: looks at the simulator's state and knows the next action from wherever the arm is.

Near-Markov on purpose: apart from one counter the action depends on the present state only, so the oracle can take
over from any state, and a policy that sees the same state can copy it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.controller import METRES_PER_UNIT, RADIANS_PER_UNIT, rotation_vector
from flexor.sim.scenes import BLOCK_HALF, BOX_HEIGHT, PLATE_HEIGHT
from flexor.sim.tasks import Task, is_done
from flexor.sim.world import World

OPEN, CLOSE = -1.0, 1.0
GAIN = 2.0  # units of action a METRES_PER_UNIT of error
TURN_LIMIT = 0.3  # largest rotation action
DOWNWARD = np.diag([1.0, -1.0, -1.0])  # gripper frame looking straight down
GRASP_RADIUS = 0.010  # m: near enough above the block to go down and to close
GRASP_DEPTH = 0.008  # m, tolerance of the height at which the fingers close
FUNNEL_SLOPE, FUNNEL_TOP = 2.5, 0.12  # approach height above the goal grows with the distance, up to 12 cm
CLOSE_STEPS = 4  # control steps of closing before the grasp is judged
CARRY_CLEARANCE = 0.06  # m of the block's bottom over the target's rim while carrying
RELEASE_RADIUS = 0.012  # m
RELEASE_HEIGHT = 0.012  # m of the block above where it will rest
RIM = {"place_on": PLATE_HEIGHT, "place_in": BOX_HEIGHT}  # m, highest part of the target
REST = {"place_on": PLATE_HEIGHT + BLOCK_HALF, "place_in": BOX_HEIGHT + BLOCK_HALF}  # m, height at which to let go
RETREAT_HEIGHT = 0.16  # m


class Oracle:
    """Solves one task of a world in closed loop; make a new one for each episode."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._closing = 0

    def act(self, world: World) -> NDArray[np.float32]:
        """The next action, float32 [7] in [-1, 1], for the world as it is now."""
        if is_done(self.task, world):
            return self._retreat(world)
        if world.fingers_touching(self.task.item) == 2 and self._lifts(world):
            return self._carry(world)
        return self._grasp(world)

    def _lifts(self, world: World) -> bool:
        """Two fingers touch: go on closing until the grip is firm, then carry."""
        self._closing = min(self._closing + 1, CLOSE_STEPS)
        airborne = world.position(self.task.item)[2] > BLOCK_HALF + 0.01
        return self._closing >= CLOSE_STEPS or bool(airborne)

    def _grasp(self, world: World) -> NDArray[np.float32]:
        block = world.position(self.task.item)
        grip = world.grip_position()
        reach = float(np.hypot(*(block - grip)[:2]))
        at_block = reach < GRASP_RADIUS and abs(grip[2] - block[2]) < GRASP_DEPTH
        if at_block and self._closing < 3 * CLOSE_STEPS:
            self._closing += 1
            return self._move(world, block - grip, CLOSE)
        self._closing = 0
        above = np.clip(FUNNEL_SLOPE * (reach - GRASP_RADIUS), 0.0, FUNNEL_TOP)
        return self._move(world, block + np.array([0.0, 0.0, above]) - grip, OPEN)

    def _carry(self, world: World) -> NDArray[np.float32]:
        block, target = world.position(self.task.item), world.position(self.task.target)
        way = target - block
        reach = float(np.hypot(*way[:2]))
        rest, rim = REST[self.task.kind], RIM[self.task.kind]
        clear = rim + BLOCK_HALF + CARRY_CLEARANCE
        if reach < RELEASE_RADIUS and block[2] < rest + RELEASE_HEIGHT:
            self._closing = 0
            return self._move(world, np.zeros(3), OPEN)
        funnel = np.clip(FUNNEL_SLOPE * (reach - RELEASE_RADIUS), 0.0, clear - rest)
        way[2] = rest + funnel - block[2]
        lag = max(0.0, way[2])  # too low for the distance: rise before moving on
        way[:2] *= np.clip(1.0 - lag / 0.03, 0.0, 1.0)
        return self._move(world, way, CLOSE)

    def _retreat(self, world: World) -> NDArray[np.float32]:
        self._closing = 0
        rise = max(0.0, RETREAT_HEIGHT - world.grip_position()[2])
        return self._move(world, np.array([0.0, 0.0, rise]), OPEN)

    def _move(self, world: World, way: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
        """Proportional step along `way` [3] m, scaled as a whole into the action range; turns the gripper down."""
        step = GAIN * way / METRES_PER_UNIT
        step /= max(1.0, float(np.abs(step).max()))
        turn = GAIN * rotation_vector(DOWNWARD @ world.grip_rotation().T) / RADIANS_PER_UNIT
        turn = np.clip(turn, -TURN_LIMIT, TURN_LIMIT)
        return np.concatenate([step, turn, [gripper]]).astype(np.float32)
