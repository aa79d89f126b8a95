"""Corrector: an expert program that takes over when an episode goes wrong, and hands back when its turn is over.

After HG-DAgger (Kelly et al., 2019): the expert drives whole turns, and what it does there is what the policy is to
learn. Where a person would watch, it goes by the entropy alarm, by what the robot says went wrong, and by standing
still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from flexor.runtime.driving.adviser import Expert
from flexor.runtime.driving.intervention import Situation, Takeover
from flexor.runtime.inference.conformal import ALARM


class CorrectionSettings(BaseModel):
    """When the expert takes over, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alarm: bool = Field(default=True, description="take over on a calibrated score above 2.0")
    failure: bool = Field(default=True, description="take over when something went wrong (docs/failures.md)")
    stall_steps: int = Field(default=40, ge=0, description="take over after so many steps on one spot; 0 never does")
    stall_m: float = Field(default=0.01, gt=0, description="how large a spot is: distance of the gripper frame (m)")
    turn_steps: int = Field(default=40, ge=1, description="control steps until the arm is handed back")


class Corrector:
    """An Intervener around an expert that knows the next action from wherever the arm is.

    Args:
        make_expert: gives a new one for the present episode; asked at the beginning of each turn.
        settings: when it takes over.
        name: whose actions they are.
    """

    def __init__(self, make_expert: Callable[[], Expert], settings: CorrectionSettings, name: str = "oracle") -> None:
        self._make_expert, self._settings, self._name = make_expert, settings, name
        self.begin()

    @property
    def name(self) -> str:
        """Who it is, for the record."""
        return self._name

    def begin(self) -> None:
        """An episode begins."""
        self._expert: Expert | None = None
        self._why, self._left = "", 0
        self._rested_at = 0  # since when the policy drives
        self._known: set[tuple[str, int]] = set()  # what went wrong before, and was answered
        self._spot: deque[NDArray[np.float32]] = deque(maxlen=self._settings.stall_steps + 1)

    def takeover(self, situation: Situation) -> Takeover | None:
        """The expert's action while a turn lasts or where one begins; None elsewhere."""
        if self._expert is None:
            why = self._trouble(situation)
            if why is None:
                return None
            self._expert, self._why, self._left = self._make_expert(), why, self._settings.turn_steps
        self._known |= {(event.label, event.step) for event in situation.events}
        if self._left == 0:
            self._expert, self._rested_at = None, situation.step
            self._spot.clear()
            return None
        self._left -= 1
        return Takeover(np.asarray(self._expert(), np.float32), self._why)

    def _trouble(self, situation: Situation) -> str | None:
        """Why the policy should not go on; None when it may."""
        settings = self._settings
        self._spot.append(situation.state[:3].copy())
        fresh = situation.suspected_step >= self._rested_at
        if settings.alarm and fresh and situation.suspicion is not None and situation.suspicion > ALARM:
            return "alarm"
        if settings.failure:
            for event in situation.events:
                if event.recovered_at is None and (event.label, event.step) not in self._known:
                    return f"failure.{event.label}"
        if settings.stall_steps and len(self._spot) > settings.stall_steps:
            way = np.linalg.norm(np.array(self._spot) - self._spot[-1], axis=1)
            if way.max() < settings.stall_m:
                return "stall"
        return None
