"""What the robot may be asked to do: tasks by name, and when each one is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flexor.sim.scenes import BOX_HALF, BOX_HEIGHT
from flexor.sim.world import World

TaskKind = Literal["place_on", "place_in", "stack", "push"]

ON_MARGIN = 0.01  # m: the item's middle lies clearly on a plate or mat
REST_HEIGHT = 0.008  # m, tolerance of the height at which an item should rest
STACK_SHARE = 0.8  # of the lower block's half edge: the upper one's middle lies clearly above it
PUSH_RADIUS = 0.045  # m, between the middles of what is pushed and of its goal


@dataclass(frozen=True, slots=True)
class Task:
    """Bring `item` to `target`, both items of `scene`, in the way of its kind."""

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
        Task("green_block_on_yellow_block", "towers", "stack", "green_block", "yellow_block"),
        Task("green_block_on_purple_block", "towers", "stack", "green_block", "purple_block"),
        Task("purple_block_on_yellow_block", "towers", "stack", "purple_block", "yellow_block"),
        Task("purple_block_on_green_block", "towers", "stack", "purple_block", "green_block"),
        Task("puck_to_white_mat", "mats", "push", "teal_puck", "white_mat"),
        Task("puck_to_black_mat", "mats", "push", "teal_puck", "black_mat"),
        Task("orange_block_on_white_mat", "mats", "place_on", "orange_block", "white_mat"),
        Task("orange_block_on_black_mat", "mats", "place_on", "orange_block", "black_mat"),
    )
}


def alternatives(task: Task) -> tuple[str, ...]:
    """Names of the other tasks that can be asked for in the scene of a task."""
    return tuple(name for name, other in TASKS.items() if other.scene == task.scene and other != task)


def support_height(task: Task, world: World) -> float:
    """Height (m) of the surface on which a block should come to rest, above the origin of the target."""
    if task.kind == "stack":
        return float(world.size(task.target)[2])
    if world.kind(task.target) == "plate":
        return 2.0 * float(world.size(task.target)[1])
    return 0.0  # a mat is only drawn: what lies on it rests on the table


def is_done(task: Task, world: World) -> bool:
    """Whether the item is where it should be; what was carried has to be let go."""
    offset = world.position(task.item) - world.position(task.target)
    reach = float(np.hypot(*offset[:2]))
    size = world.size(task.item)
    if task.kind == "push":
        return bool(reach < PUSH_RADIUS and abs(offset[2] - size[1]) < REST_HEIGHT)
    if world.fingers_touching(task.item):
        return False
    if task.kind == "place_in":
        return bool(np.all(np.abs(offset[:2]) < BOX_HALF) and offset[2] < BOX_HEIGHT)
    target = world.size(task.target)[0]
    radius = STACK_SHARE * target if task.kind == "stack" else target - ON_MARGIN
    return bool(reach < radius and abs(offset[2] - support_height(task, world) - size[2]) < REST_HEIGHT)
