"""LIBERO episodes that go wrong in a known way, in the real scenes: who drives the arm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mishaps import Played
from numpy.typing import NDArray

from flexor.sim.failure.judge import FailureJudge
from flexor.sim.libero.goal import Goal, Part
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.oracle.motion import CLOSE, OPEN, step_along
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.suites import official_starts
from flexor.sim.libero.watched import StageScene

Driver = Callable[[Stage, int], NDArray[np.float32]]


def begin(stage: Stage, trial: int = 0) -> FailureJudge:
    """An official episode, settled, and its judge."""
    stage.reset(official_starts(stage.task)[trial], stage.official_fixtures(trial))
    stage.wait()
    return FailureJudge(StageScene(stage))


def play(stage: Stage, drive: Driver, steps: int, trial: int = 0) -> Played:
    """Play until the task is done or `steps` are over, which is the step limit then."""
    judge = begin(stage, trial)
    success, step = False, 0
    for step in range(steps):
        stage.act(drive(stage, step))
        judge.look(step)
        success = stage.is_done()
        if success:
            break
    label = judge.finish(step, success)
    return Played(judge.events, label, success)


def go(stage: Stage, place: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
    return step_along(stage, place - stage.grip_position(), gripper)


def still(stage: Stage, step: int) -> NDArray[np.float32]:
    return np.array([0, 0, 0, 0, 0, 0, OPEN], np.float32)


def expert(stage: Stage, *parts: Part) -> Driver:
    """The oracle, for the task or for what else is to be done."""
    oracle = Expert(stage, Goal(parts) if parts else None)
    return lambda stage, step: oracle.act()


class Lifted:
    """Another driver, until an object is 2.5 cm up; `after` drives from then on."""

    def __init__(self, drive: Driver, thing: str, after: Driver) -> None:
        self._drive, self._thing, self._after = drive, thing, after
        self._foot, self._up = np.inf, False

    def __call__(self, stage: Stage, step: int) -> NDArray[np.float32]:
        height = float(stage.position(self._thing)[2])
        self._foot = min(self._foot, height)
        self._up = self._up or height > self._foot + 0.025
        return (self._after if self._up else self._drive)(stage, step)


def for_steps(count: int, first: Driver, then: Driver) -> Driver:
    """One driver for as many of its own steps, another one after it."""
    played = 0

    def drive(stage: Stage, step: int) -> NDArray[np.float32]:
        nonlocal played
        played += 1
        return (first if played <= count else then)(stage, step)

    return drive


def greased(thing: str) -> Driver:
    """An object turns slippery in closed fingers, which go up slowly."""

    def drive(stage: Stage, step: int) -> NDArray[np.float32]:
        mine = stage.model.geom_bodyid == stage.body(thing)
        stage.model.geom_friction[mine] = (0.001, 0.001, 0.0001)
        stage.model.geom_priority[mine] = 2
        return np.array([0, 0, 0.3, 0, 0, 0, CLOSE], np.float32)

    return drive


class Misser:
    """Goes down beside an object, closes there, and goes up again."""

    def __init__(self, thing: str, beside: tuple[float, float, float]) -> None:
        self._thing, self._beside = thing, np.array(beside)
        self._closing = 0

    def __call__(self, stage: Stage, step: int) -> NDArray[np.float32]:
        place = stage.position(self._thing) + self._beside
        way = place - stage.grip_position()
        if self._closing == 0 and np.linalg.norm(way) < 0.02:
            self._closing = 1
        if self._closing == 0:
            return go(stage, place + np.array([0, 0, min(2.0 * float(np.hypot(*way[:2])), 0.1)]), OPEN)
        self._closing += 1
        return go(stage, place + np.array([0, 0, 0.0 if self._closing < 25 else 0.15]), CLOSE)


def down(stage: Stage, step: int) -> NDArray[np.float32]:
    """Straight down, and on."""
    return np.array([0, 0, -1, 0, 0, 0, OPEN], np.float32)


def along(
    start: Callable[[Stage], NDArray[np.float64]], way: tuple[float, float, float], arrive: int, until: int
) -> Driver:
    """Over a place, down to it by step `arrive` with closed fingers, then along `way` until a step."""

    def drive(stage: Stage, step: int) -> NDArray[np.float32]:
        if step < arrive:
            return go(stage, start(stage) + np.array([0, 0, 0.15 if step < arrive // 2 else 0.0]), CLOSE)
        return np.array([*(way if step < until else (0, 0, 0)), 0, 0, 0, CLOSE], np.float32)

    return drive


def over(place: tuple[float, float, float]) -> Driver:
    """To a place off the grip's first one, and there for ever, with open fingers."""
    first: list[NDArray[np.float64]] = []

    def drive(stage: Stage, step: int) -> NDArray[np.float32]:
        if step == 0:
            first[:] = [stage.grip_position()]
        return go(stage, first[0] + np.array(place), OPEN)

    return drive
