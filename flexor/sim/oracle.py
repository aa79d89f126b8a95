"""The scripted expert: looks at the simulator's state and knows the next action from wherever the arm is.

Near-Markov on purpose: apart from one counter the action depends on the present state only, so the oracle can take
over from any state, and a policy that sees the same state can copy it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.motion import CLOSE, OPEN, retreat, step_along
from flexor.sim.pushing import has_arrived, push
from flexor.sim.scenes import BOX_HEIGHT
from flexor.sim.tasks import Task, is_done, support_height
from flexor.sim.world import World

GRASP_RADIUS = 0.010  # m: near enough above the block to go down and to close
GRASP_DEPTH = 0.008  # m, tolerance of the height at which the fingers close
FUNNEL_SLOPE, FUNNEL_TOP = 2.5, 0.12  # approach height above the goal grows with the distance, up to 12 cm
CLOSE_STEPS = 4  # control steps of closing before the grasp is judged
CARRY_CLEARANCE = 0.06  # m of the block's bottom over the target's rim while carrying
RELEASE_RADIUS = {"place_on": 0.012, "place_in": 0.012, "stack": 0.006}  # m
RELEASE_HEIGHT = {"place_on": 0.012, "place_in": 0.012, "stack": 0.005}  # m of the block above where it will rest


class Oracle:
    """Solves one task of a world in closed loop; make a new one for each episode."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._closing = 0

    def act(self, world: World) -> NDArray[np.float32]:
        """The next action, float32 [7] in [-1, 1], for the world as it is now."""
        if self.task.kind == "push":
            return retreat(world) if has_arrived(self.task, world) else push(self.task, world)
        if is_done(self.task, world):
            self._closing = 0
            return retreat(world)
        if world.fingers_touching(self.task.item) == 2 and self._lifts(world):
            return self._carry(world)
        return self._grasp(world)

    def _lifts(self, world: World) -> bool:
        """Two fingers touch: go on closing until the grip is firm, then carry; at the target go on letting go."""
        self._closing = min(self._closing + 1, CLOSE_STEPS)
        airborne = world.position(self.task.item)[2] > world.size(self.task.item)[2] + 0.01
        return self._closing >= CLOSE_STEPS or bool(airborne) or self._at_target(world)

    def _at_target(self, world: World) -> bool:
        """Whether the block is where it is let go."""
        kind, block, target = self.task.kind, world.position(self.task.item), world.position(self.task.target)
        near = np.hypot(*(target - block)[:2]) < RELEASE_RADIUS[kind]
        return bool(near and block[2] < self._rest(world) + RELEASE_HEIGHT[kind])

    def _rest(self, world: World) -> float:
        """Height (m) of the block's middle when it is let go: on what carries it; over a box, not in it."""
        task = self.task
        surface = BOX_HEIGHT if task.kind == "place_in" else support_height(task, world)
        return float(world.position(task.target)[2] + surface + world.size(task.item)[2])

    def _grasp(self, world: World) -> NDArray[np.float32]:
        block = world.position(self.task.item)
        grip = world.grip_position()
        reach = float(np.hypot(*(block - grip)[:2]))
        at_block = reach < GRASP_RADIUS and abs(grip[2] - block[2]) < GRASP_DEPTH
        if at_block and self._closing < 3 * CLOSE_STEPS:
            self._closing += 1
            return step_along(world, block - grip, CLOSE)
        self._closing = 0
        above = np.clip(FUNNEL_SLOPE * (reach - GRASP_RADIUS), 0.0, FUNNEL_TOP)
        return step_along(world, block + np.array([0.0, 0.0, above]) - grip, OPEN)

    def _carry(self, world: World) -> NDArray[np.float32]:
        if self._at_target(world):
            self._closing = 0
            return step_along(world, np.zeros(3), OPEN)
        task, rest = self.task, self._rest(world)
        block = world.position(task.item)
        way = world.position(task.target) - block
        reach = float(np.hypot(*way[:2]))
        funnel = np.clip(FUNNEL_SLOPE * (reach - RELEASE_RADIUS[task.kind]), 0.0, CARRY_CLEARANCE)
        way[2] = rest + funnel - block[2]
        lag = max(0.0, way[2])  # too low for the distance: rise before moving on
        way[:2] *= np.clip(1.0 - lag / 0.03, 0.0, 1.0)
        return step_along(world, way, CLOSE)
