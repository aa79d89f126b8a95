"""The door to a robot, simulated or real: what the daemon may ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.observation import Observation


class RobotFault(FlexorError):
    """A robot, or its simulation, broke down in the middle of an episode: that episode has failed."""


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
        alternatives: for each task the others that can be asked for in the very same scene, as `reset` takes them;
            empty when not known.
        conditions: under which it works, e.g. a simulation's domain shift; goes into every episode, has a JSON form.
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
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailureEvent:
    """Something that went wrong on the way, whether or not the episode fails by it (docs/failures.md).

    Attributes:
        label: grasp_slip, reach_miss, collision, occlusion or timeout.
        step: control step, counted from 0, whose action it followed.
        data: the numbers it was judged by; has a JSON form.
        recovered_at: control step by which it was put right; None when it was not.
    """

    label: str
    step: int
    data: Mapping[str, Any]
    recovered_at: int | None = None

    def record(self) -> tuple[int, str, dict[str, Any]]:
        """Step, kind and data under which a recorder keeps it."""
        return self.step, f"failure.{self.label}", {**self.data, "recovered_at": self.recovered_at}


@dataclass(frozen=True, slots=True)
class Status:
    """Where an episode stands after a step.

    Attributes:
        step: control steps since the beginning.
        success: None when the robot cannot judge it.
        failure: label of the event that explains a failure, once it is one; None where nobody can tell.
        events: all that went wrong so far, by step; empty where nobody looks.
        prompt: after a reset, the sentence of this episode where it is not spec.tasks' own; None elsewhere.
    """

    step: int
    done: bool
    success: bool | None
    failure: str | None = None
    events: tuple[FailureEvent, ...] = ()
    prompt: str | None = None


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
        """Play one action, float32 [A] in robot units, for one control period (a real robot starts it and returns).

        When no command follows, the arm stops by itself: a daemon that was killed cannot tell it to.

        Raises:
            RobotFault: it broke down.
        """
        ...

    def hold(self) -> Status:
        """Stay where the arm is for one control period, gripper as last commanded: the safe thing to do."""
        ...

    def close(self) -> None:
        """Release what it holds; the arm stays still."""
        ...


class SuccessJudge(Protocol):
    """A robot that can also say of another task than the present one whether it is solved."""

    def solved(self, task: str) -> bool:
        """Whether `task`, one that is possible in the present scene, is solved right now."""
        ...
