"""Does the policy read? The same scene with another sentence that is possible in it, and what becomes of both tasks.

A success rate alone does not show that words are used: where each layout has a task of its own, the picture gives it
away. Here every episode shows the scene of one task, the original, and asks for another, the spoken one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.metrics import wilson
from flexor.runtime.observation import Observation
from flexor.runtime.robot import Robot, RobotSpec, Status, SuccessJudge
from flexor.runtime.worker_pool import Job


class JudgingRobot(Robot, SuccessJudge, Protocol):
    """What a counterfactual needs: a robot that judges other tasks than the present one."""


class Witness:
    """A robot whose every step is also judged by another task than the one that it was asked for."""

    def __init__(self, robot: JudgingRobot) -> None:
        self._robot = robot
        self._original = ""
        self.original_solved = False

    @property
    def spec(self) -> RobotSpec:
        """The robot's own."""
        return self._robot.spec

    def watch(self, original: str) -> None:
        """Judge the next episode by this task, too."""
        self._original, self.original_solved = original, False

    def reset(self, seed: int, task: str) -> Status:
        """As the robot's own."""
        return self._robot.reset(seed, task)

    def state(self) -> NDArray[np.float32]:
        """As the robot's own."""
        return self._robot.state()

    def observe(self) -> Observation:
        """As the robot's own."""
        return self._robot.observe()

    def act(self, action: NDArray[np.float32]) -> Status:
        """As the robot's own, judged afterwards."""
        return self._judged(self._robot.act(action))

    def hold(self) -> Status:
        """As the robot's own, judged afterwards."""
        return self._judged(self._robot.hold())

    def close(self) -> None:
        """As the robot's own."""
        self._robot.close()

    def _judged(self, status: Status) -> Status:
        self.original_solved |= self._robot.solved(self._original)
        return status


def counterfactual_jobs(
    tasks: Sequence[str], alternatives: Mapping[str, tuple[str, ...]], episodes: int, seed: int, each: bool = False
) -> list[Job]:
    """Jobs of `evaluate` with "task" the spoken one: originals take turns, and the alternatives of each in turn.

    Args:
        each: `episodes` are those of each original: its trial k has the seed `seed` + k.

    Raises:
        FlexorError: a task without another that is possible in its scene.
    """
    lonely = [task for task in tasks if not alternatives.get(task)]
    if lonely:
        raise FlexorError(
            f"no other task is possible in the scene of {', '.join(lonely)}; leave them out with --tasks, or drop "
            "--counterfactual"
        )
    if each:
        turns = [(task, turn, seed + turn) for task in tasks for turn in range(episodes)]
    else:
        turns = [(tasks[k % len(tasks)], k // len(tasks), seed + k) for k in range(episodes)]
    jobs: list[Job] = []
    for index, (original, turn, drawn) in enumerate(turns):
        others = alternatives[original]
        jobs.append({"episode": index, "task": others[turn % len(others)], "seed": drawn, "original": original})
    return jobs


def original_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often the task that nobody asked for was solved all the same, at any step of the episode."""
    successes = sum(row["original_success"] for row in rows)
    rate, low, high = wilson(successes, len(rows))
    return {"success_rate": rate, "successes": successes, "episodes": len(rows), "ci95": [low, high]}
