"""Intervention: who may take the arm from the policy, and what is known when they are asked whether they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.robot import FailureEvent

FRAME_EVERY = 2  # control steps between two recorded frames while somebody intervenes: corrections are learned from


@dataclass(frozen=True, slots=True)
class Situation:
    """An episode at the beginning of a control step.

    Attributes:
        step: the step whose action is to be decided.
        state: float32 [S], the robot's state now.
        suspicion: the newest calibrated primary score (docs/entropy.md; above 2.0 is an alarm); None without one.
        suspected_step: control step of the observation that it is of; -1 without one.
        events: all that went wrong so far, as the robot last told it.
        gripper: its command of the step before, in robot units; open before the first.
    """

    step: int
    state: NDArray[np.float32]
    suspicion: float | None
    suspected_step: int
    events: tuple[FailureEvent, ...]
    gripper: float = -1.0


@dataclass(frozen=True, slots=True)
class Takeover:
    """Somebody acts in the policy's place for one step.

    Attributes:
        action: float32 [A] in robot units; the step is labelled with it, and it passes the guard like any other.
        why: a word or two; that of the first step of a turn is what counts.
        idle: they hold the arm and ask for nothing. It stands still then, and no frame of the step is recorded: nobody
            learns from it what to do there.
    """

    action: NDArray[np.float32]
    why: str
    idle: bool = False


class Intervener(Protocol):
    """An expert program or a person at a device. One thread uses it; a call returns well within a control period."""

    @property
    def name(self) -> str:
        """Who it is, for the record."""
        ...

    def begin(self) -> None:
        """An episode begins; the robot has been reset."""
        ...

    def takeover(self, situation: Situation) -> Takeover | None:
        """Asked at every control step; None leaves, or gives back, the arm to the policy."""
        ...


class Turns:
    """The turns of one intervener in one episode: what is recorded and counted of them.

    Args:
        intervener: whose.
        record: takes step, kind and data of an event.
        report: where turns are counted by their reason, and steps.
    """

    def __init__(
        self, intervener: Intervener, record: Callable[[int, str, Mapping[str, Any]], None], report: RunReport
    ) -> None:
        self._intervener, self._record, self._report = intervener, record, report
        self._began: int | None = None
        self.turns = self.steps = 0
        intervener.begin()

    @property
    def by(self) -> str:
        """Whose turns they are."""
        return self._intervener.name

    @property
    def active(self) -> bool:
        """Whether somebody acted in the step before."""
        return self._began is not None

    def ask(self, situation: Situation) -> Takeover | None:
        """What is done in the policy's place in this step, or None."""
        takeover = self._intervener.takeover(situation)
        if takeover is None:
            self.end(situation.step)
            return None
        if self._began is None:
            self._began = situation.step
            self.turns += 1
            self._report.interventions[takeover.why] += 1
            self._record(situation.step, "intervention.begin", {"by": self._intervener.name, "why": takeover.why})
        self.steps += 1
        self._report.intervened_steps += 1
        return takeover

    def frame_due(self, step: int) -> bool:
        """Whether the cameras are recorded at `step` of a turn."""
        return self._began is not None and (step - self._began) % FRAME_EVERY == 0

    def end(self, step: int) -> None:
        """No more from `step` on; at the end of an episode, too."""
        if self._began is not None:
            self._record(step, "intervention.end", {"by": self._intervener.name, "steps": step - self._began})
            self._began = None
