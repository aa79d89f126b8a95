"""How the oracle pushes: closed fingers go down behind the puck, seen from its goal, and drive it there.

The push is stable only in closed loop: a contact beside the line to the goal turns the puck away from it, so the
fingers are steered back onto the line while they push, and start again from above when they have left it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.sim.motion import CLOSE, OPEN, step_along
from flexor.sim.tasks import Task
from flexor.sim.world import World

FINGERS = 0.012  # m, half the width of the closed fingers
STAND_OFF = 0.040  # m between the puck and the fingers when they go down: who misjudges it still lands beside it
PUSH_HEIGHT = 0.018  # m of the gripper frame while pushing; the finger tips are 9 mm lower
OVER_HEIGHT = 0.085  # m, at which the fingers pass over everything on the table
CLOSE_RADIUS = 0.06  # m from the place behind the puck: from here on the fingers close
DOWN_RADIUS = 0.012  # m from it: near enough to go down
OFF_LINE = 0.022  # m beside the line to the goal: too far to steer back
STEER = 2.0  # how much harder the fingers go back to the line than along it
PUSH_AHEAD = 0.030  # m: the push goes for a point at most so far ahead, which limits its speed
FUNNEL_SLOPE = 2.5
ARRIVED = 0.02  # m from the goal: well inside what counts as done, so that nobody learns to stop at its edge


def has_arrived(task: Task, world: World) -> bool:
    """Whether there is nothing left to push."""
    return bool(np.linalg.norm((world.position(task.target) - world.position(task.item))[:2]) < ARRIVED)


def push(task: Task, world: World) -> NDArray[np.float32]:
    """The next action [7] that brings `task.item` to `task.target` by pushing."""
    puck, goal, grip = world.position(task.item), world.position(task.target), world.grip_position()
    radius = world.size(task.item)[0]
    way = (goal - puck)[:2]
    ahead = way / max(1e-6, float(np.linalg.norm(way)))
    beside = np.array([-ahead[1], ahead[0]])
    offset = (grip - puck)[:2]
    along, lateral = float(offset @ ahead), float(offset @ beside)
    touching = radius + FINGERS
    if grip[2] < 2.0 * puck[2] and along < -0.5 * touching and abs(lateral) < OFF_LINE:
        gap = max(0.0, -along - touching)
        forward = min(PUSH_AHEAD, float(np.linalg.norm(way))) + gap
        step = forward * ahead - STEER * lateral * beside
        return step_along(world, np.append(step, PUSH_HEIGHT - grip[2]), CLOSE)
    behind = puck[:2] - (touching + STAND_OFF) * ahead
    reach = float(np.linalg.norm(behind - grip[:2]))
    height = PUSH_HEIGHT + np.clip(FUNNEL_SLOPE * (reach - DOWN_RADIUS), 0.0, OVER_HEIGHT - PUSH_HEIGHT)
    step = np.append(behind - grip[:2], height - grip[2])
    lag = max(0.0, step[2])  # too low for the distance: rise before moving on, or the puck is swept along
    step[:2] *= np.clip(1.0 - lag / 0.03, 0.0, 1.0)
    return step_along(world, step, CLOSE if reach < CLOSE_RADIUS else OPEN)
