"""Point robots that break down or whose process is killed, each at a chosen episode; importable in any process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from point_world import PointRobot

from flexor.runtime.robot import RobotFault, Status


class FaultyRobot(PointRobot):
    """Breaks down in the third step of the episode with the given seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(max_steps=30)
        self._bad_seed, self._seed = seed, -1

    def reset(self, seed: int, task: str) -> Status:
        self._seed = seed
        return super().reset(seed, task)

    def act(self, action: NDArray[np.float32]) -> Status:
        if self._seed == self._bad_seed and self._step == 2:
            raise RobotFault("the motors are hot")
        return super().act(action)


class UnreadyRobot(PointRobot):
    """Breaks down while it gets ready for the episode with the given seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(max_steps=30)
        self._bad_seed = seed

    def reset(self, seed: int, task: str) -> Status:
        if seed == self._bad_seed:
            raise RobotFault("the table fell over")
        return super().reset(seed, task)


class MortalRobot(PointRobot):
    """Its process is killed at the given seed, `lives` times in all; a file counts them."""

    def __init__(self, seed: int, lives: int, grave: str) -> None:
        super().__init__(max_steps=30)
        self._bad_seed, self._lives, self._grave = seed, lives, Path(grave)

    def reset(self, seed: int, task: str) -> Status:
        deaths = len(self._grave.read_text()) if self._grave.exists() else 0
        if seed == self._bad_seed and deaths < self._lives:
            self._grave.write_text("x" * (deaths + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed, task)


def open_faulty(sim: str, seed: int) -> FaultyRobot:
    """For evaluate."""
    return FaultyRobot(seed)


def open_unready(sim: str, seed: int) -> UnreadyRobot:
    """For evaluate."""
    return UnreadyRobot(seed)


def open_mortal(sim: str, seed: int, lives: int, grave: str) -> MortalRobot:
    """For evaluate."""
    return MortalRobot(seed, lives, grave)
