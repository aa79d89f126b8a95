"""Pushes the expert off its path while demonstrations are recorded, so that the data show the way back.

After DART (Laskey et al., 2017): the arm plays a noisy action, the recorded label is what the expert wanted. Noise
comes in bursts because a policy's own errors last, too; now and then the gripper lets go.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator


class DisturbanceSettings(BaseModel):
    """How rough the recording is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    episode_share: float = Field(default=0.75, ge=0, le=1, description="share of episodes with bursts of noise")
    noise_low: float = Field(
        default=0.15, ge=0, description="smallest standard deviation of a burst, in units of action"
    )
    noise_high: float = Field(
        default=0.50, ge=0, description="largest standard deviation of a burst, in units of action"
    )
    turn_noise: float = Field(default=0.10, ge=0, description="standard deviation on the rotation, in units of action")
    burst_low: int = Field(default=4, ge=1, description="shortest burst, in control steps")
    burst_high: int = Field(default=12, ge=1, description="longest burst, in control steps")
    burst_share: float = Field(
        default=0.6, ge=0, le=1, description="share of the time with noise, inside such an episode"
    )
    drop_share: float = Field(
        default=0.15, ge=0, le=1, description="share of episodes in which the gripper lets go once"
    )
    drop_steps: int = Field(default=5, ge=1, description="how long it stays open then, in control steps")
    drop_before: int = Field(default=60, ge=1, description="the drop happens before this control step")

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        for low, high in (("noise_low", "noise_high"), ("burst_low", "burst_high")):
            smallest, largest = getattr(self, low), getattr(self, high)
            if smallest > largest:
                raise ValueError(f"{low} is {smallest} and {high} is {largest}; expected {low} of at most {high}")
        return self


class Disturbance:
    """The disturbance of one episode, drawn from its own generator."""

    def __init__(self, settings: DisturbanceSettings, rng: np.random.Generator) -> None:
        self._settings, self._rng = settings, rng
        self._noisy = rng.random() < settings.episode_share
        self._drop_at = int(rng.integers(settings.drop_before)) if rng.random() < settings.drop_share else -1
        self._left = 0
        self._burst = np.zeros(6)

    def apply(self, step: int, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the arm plays at `step` instead of the expert's action; float32 [7] in [-1, 1]."""
        played = action.copy()
        if self._noisy:
            played[:6] += self._noise()
        if self._drop_at <= step < self._drop_at + self._settings.drop_steps and self._drop_at >= 0:
            played[6] = -1.0
        return np.clip(played, -1.0, 1.0)

    def _noise(self) -> NDArray[np.float32]:
        settings, rng = self._settings, self._rng
        if self._left == 0:
            self._left = int(rng.integers(settings.burst_low, settings.burst_high + 1))
            strength = rng.uniform(settings.noise_low, settings.noise_high)
            quiet = rng.random() >= settings.burst_share
            burst = np.concatenate([rng.normal(0, strength, 3), rng.normal(0, settings.turn_noise, 3)])
            self._burst = np.zeros(6) if quiet else burst
        self._left -= 1
        return self._burst.astype(np.float32)
