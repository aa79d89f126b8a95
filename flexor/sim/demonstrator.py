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


def sentences_of(sim: str) -> dict[str, dict[str, list[str]]]:
    """The split of everything that can be asked for, by task name: {task: {"train": [...], "held_out": [...]}}.

    Raises:
        FlexorError: no such simulation, or it cannot run here.
    """
    if sim == "sim:tabletop":
        return all_splits()
    from flexor.sim.libero.alternatives import Asked, alternatives
    from flexor.sim.libero.sentences import split
    from flexor.sim.libero.suites import find_suite

    said = {}
    for task in find_suite(sim.removeprefix("sim:")).tasks:
        said[task.name] = split(task.sentence)
        said |= {Asked(task, other).name: split(other.sentence) for other in alternatives(task).values()}
    return said
