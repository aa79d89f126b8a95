"""Lets a policy drive while demonstrations are recorded, so that the data show what to do where its own errors lead.

After DAgger (Ross et al., 2011): the policy's action is played, the recorded label is what the expert wanted. The two
take turns, as in HG-DAgger (Kelly et al., 2019), so that most episodes still end well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from flexor.runtime.inference.local_policy import LocalPolicy
from flexor.runtime.observation import Observation


class PilotSettings(BaseModel):
    """Which policy drives, and for how long at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str | None = Field(default=None, description="folder or shipped name; null lets the expert drive alone")
    turn_low: int = Field(default=10, ge=1, description="shortest turn of the policy, in control steps")
    turn_high: int = Field(default=40, ge=1, description="longest turn of the policy, in control steps")
    rest_low: int = Field(default=15, ge=1, description="shortest turn of the expert, in control steps")
    rest_high: int = Field(default=40, ge=1, description="longest turn of the expert, in control steps")

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        for low, high in (("turn_low", "turn_high"), ("rest_low", "rest_high")):
            shortest, longest = getattr(self, low), getattr(self, high)
            if shortest > longest:
                raise ValueError(f"{low} is {shortest} and {high} is {longest}; expected {low} of at most {high}")
        return self


class Pilot:
    """A policy that takes turns with the expert.

    Args:
        policy: one that was opened for this process alone.
        settings: how long the turns are.
    """

    def __init__(self, policy: LocalPolicy, settings: PilotSettings) -> None:
        self._policy, self._settings = policy, settings
        self._rng = np.random.default_rng()
        self._drives, self._left = False, 0
        self._chunk: list[NDArray[np.float32]] = []

    @classmethod
    def open(cls, settings: PilotSettings) -> Pilot | None:
        """The pilot that the settings ask for; None where the expert drives alone.

        Raises:
            FlexorError: the bundle cannot be opened.
        """
        if settings.bundle is None:
            return None
        policy = LocalPolicy.open(settings.bundle, None, None, threads=1, flow_steps=None, seed=0, force=False)
        return cls(policy, settings)

    @property
    def name(self) -> str:
        """Which policy it is: NAME@hash."""
        return str(self._policy.describe()["bundle"])

    def begin(self, rng: np.random.Generator) -> None:
        """An episode begins, with the policy's turn; `rng` draws the length of all turns."""
        self._rng, self._drives, self._left = rng, False, 0

    def drives(self) -> bool:
        """Whether the coming step is the policy's; call once a step."""
        if self._left == 0:
            self._drives = not self._drives
            settings = self._settings
            low, high = (
                (settings.turn_low, settings.turn_high) if self._drives else (settings.rest_low, settings.rest_high)
            )
            self._left = int(self._rng.integers(low, high + 1))
            self._chunk = []
        self._left -= 1
        return self._drives

    def act(self, look: Callable[[], Observation]) -> NDArray[np.float32]:
        """The policy's action, float32 [A] within [-1, 1]; it looks only when it needs a new chunk."""
        if not self._chunk:
            actions = self._policy.infer(look()).actions
            self._chunk = list(np.clip(actions[: self._policy.describe()["replan"]], -1.0, 1.0))
        return self._chunk.pop(0)
