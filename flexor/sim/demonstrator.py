"""Demonstrators: simulated robots that know how their tasks are done, and the sentences that tasks are said in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.robot import Robot
from flexor.sim.libero.protocol import LiberoSettings
from flexor.sim.robots import open_robot
from flexor.sim.sentences import all_splits
from flexor.sim.shift import NONE, Shift
from flexor.sim.tasks import TASKS, alternatives

Expert = Callable[[], NDArray[np.float32]]
"""The next action of a scripted expert, float32 [7] in [-1, 1], for the robot as it stands now."""


class Demonstrator(Robot, Protocol):
    """A simulated robot with an expert for the task of the present episode."""

    def expert(self) -> Expert:
        """A new one, for the episode that the last reset began."""
        ...


def open_demonstrator(sim: str, image_size: int, shift: Shift = NONE) -> Demonstrator:
    """The robot `sim` as demonstrations want it: starts drawn by the seed, never official ones, and cheap pictures.

    Raises:
        UnknownRobotError, FlexorError: as open_robot.
    """
    libero = LiberoSettings(render="fast", starts="sampled")
    return cast(Demonstrator, open_robot(sim, image_size, shift, libero))


def alternatives_of(sim: str) -> dict[str, tuple[str, ...]]:
    """For each task, in their order, the others that can be shown in its scene.

    Of LIBERO they are more than a robot's spec names: a part of a scene's own task tells nothing of who reads, and is
    worth showing all the same.

    Raises:
        FlexorError: no such simulation, or it cannot run here.
    """
    if sim == "sim:tabletop":
        return {name: alternatives(task) for name, task in TASKS.items()}
    from flexor.sim.libero.alternatives import other_names
    from flexor.sim.libero.suites import find_suite

    return {task.name: other_names(task) for task in find_suite(sim.removeprefix("sim:")).tasks}


def sentences_of(sim: str) -> dict[str, dict[str, list[str]]]:
    """The split of everything that can be asked for, by task name: {task: {"train": [...], "held_out": [...]}}.

    Raises:
        FlexorError: no such simulation, or it cannot run here.
    """
    if sim == "sim:tabletop":
        return all_splits()
    from flexor.sim.libero.alternatives import Asked
    from flexor.sim.libero.alternatives import alternatives as others_in_scene
    from flexor.sim.libero.sentences import split
    from flexor.sim.libero.suites import find_suite

    said = {}
    for task in find_suite(sim.removeprefix("sim:")).tasks:
        said[task.name] = split(task.sentence)
        said |= {Asked(task, other).name: split(other.sentence) for other in others_in_scene(task).values()}
    return said
