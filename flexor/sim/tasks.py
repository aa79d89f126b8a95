"""What the robot may be asked to do: tasks by name, and when each one is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flexor.sim.scenes import BLOCK_HALF, BOX_HALF, BOX_HEIGHT, PLATE_HEIGHT, PLATE_RADIUS
from flexor.sim.world import World

TaskKind = Literal["place_on", "place_in"]

ON_RADIUS = PLATE_RADIUS - 0.01  # m: the block's middle lies clearly on the plate
ON_HEIGHT = 0.008  # m, tolerance of the block's height above the plate


@dataclass(frozen=True, slots=True)
class Task:
    """Bring `item` onto or into `target`, both items of `scene`."""

    name: str
    scene: str
    kind: TaskKind
    item: str
    target: str


TASKS = {
    task.name: task
    for task in (
        Task("red_block_on_plate", "blocks", "place_on", "red_block", "plate"),
        Task("blue_block_on_plate", "blocks", "place_on", "blue_block", "plate"),
        Task("red_block_in_box", "blocks", "place_in", "red_block", "box"),
        Task("blue_block_in_box", "blocks", "place_in", "blue_block", "box"),
    )
}


def is_done(task: Task, world: World) -> bool:
    """Whether the item lies where it should, let go by the gripper."""
    if world.fingers_touching(task.item):
        return False
    offset = world.position(task.item) - world.position(task.target)
    if task.kind == "place_on":
        rests = abs(offset[2] - PLATE_HEIGHT - BLOCK_HALF) < ON_HEIGHT
        return bool(rests and np.hypot(*offset[:2]) < ON_RADIUS)
    inside = np.all(np.abs(offset[:2]) < BOX_HALF)
    return bool(inside and offset[2] < BOX_HEIGHT)
