"""The door to a robot, simulated or real: what the daemon may ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.observation import Observation


@dataclass(frozen=True, slots=True)
class RobotSpec:
    """What a robot is, for the checks before the first action.

    Attributes:
        name: as given on the command line, e.g. "sim:tabletop".
        cameras: (height, width) by camera name.
        state_dim: S of Observation.state.
        action_dim: A; for the Franka 7: delta position, delta rotation (axis-angle), gripper (-1 open, +1 close).
        hz: control rate.
        action_low, action_high: float32 [A], the range that the robot accepts.
        metres_per_unit: how far action[:3] = 1 moves the gripper frame's target.
        workspace: float32 [2, 3], lowest and highest allowed position of the gripper frame (m).
        tasks: the sentence of each task by task name; empty when the robot takes any prompt.
        max_steps: control steps after which an episode is given up.
    """

    name: str
    cameras: Mapping[str, tuple[int, int]]
    state_dim: int
    action_dim: int
    hz: float
    action_low: NDArray[np.float32]
    action_high: NDArray[np.float32]
    metres_per_unit: float
    workspace: NDArray[np.float32]
    tasks: Mapping[str, str]
    max_steps: int


@dataclass(frozen=True, slots=True)
class Status:
    """Where an episode stands after a step: success is None when the robot cannot judge it."""

    step: int
    done: bool
    success: bool | None


class Robot(Protocol):
    """A Franka or its simulation. One thread uses it; every call returns within a control period or two."""

    @property
    def spec(self) -> RobotSpec:
        """What this robot is."""
        ...

    def reset(self, seed: int, task: str) -> Status:
        """Start an episode of `task` (a key of spec.tasks); the same seed gives the same episode."""
        ...

    def state(self) -> NDArray[np.float32]:
        """The state alone, float32 [S]; cheap, no camera is read."""
        ...

    def observe(self) -> Observation:
        """Read the cameras and the state now."""
        ...

    def act(self, action: NDArray[np.float32]) -> Status:
        """Play one action, float32 [A] in robot units, for one control period (a real robot starts it and returns)."""
        ...

    def hold(self) -> Status:
        """Stay where the arm is for one control period, gripper as last commanded: the safe thing to do."""
        ...

    def close(self) -> None:
        """Release what it holds; the arm stays still."""
        ...
