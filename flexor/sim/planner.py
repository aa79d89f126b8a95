"""PlanningExpert: the oracle in a world, for its next action, and for all that it would do from here on."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from flexor.sim.oracle import Oracle
from flexor.sim.world import World


class PlanningExpert:
    """Who solves a task of a world in closed loop."""

    def __init__(self, oracle: Oracle, world: World) -> None:
        self._oracle, self._world = oracle, world

    def __call__(self) -> NDArray[np.float32]:
        """The next action, float32 [7] in [-1, 1], for the world as it is now."""
        return self._oracle.act(self._world)

    def plan(self, count: int) -> NDArray[np.float32]:
        """The next `count` actions if it had the arm, float32 [count, 7]: thought out in the world, which stays."""
        thinking = copy.copy(self._oracle)
        with self._world.imagined():
            actions = []
            for _ in range(count):
                actions.append(thinking.act(self._world))
                self._world.act(actions[-1])
        return np.array(actions, np.float32)
