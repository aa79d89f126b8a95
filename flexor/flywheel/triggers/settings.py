"""TriggerSettings: when the flywheel acts, and its defaults; what can never fire is refused here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

UNITS = ("steps", "episodes", "minutes")
_EVERY = re.compile(r"(\d+(?:\.\d+)?) +(step|episode|minute)s?")


@dataclass(frozen=True, slots=True)
class Every:
    """A period: so many optimiser steps, episodes or minutes."""

    count: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Every:
        """From "500 steps", "20 episodes" or "30 minutes". Raises ValueError."""
        found = _EVERY.fullmatch(text.strip())
        count = float(found[1]) if found else 0.0
        if found is None or count <= 0 or (found[2] != "minute" and count % 1):
            raise ValueError(f'expected e.g. "500 steps", "20 episodes" or "30 minutes", all above 0, not "{text}"')
        return cls(count, f"{found[2]}s")


class SuccessRateSettings(BaseModel):
    """Success over the last episodes below a threshold asks for a fine-tune batch.

    Attributes:
        trigger_threshold: fires below it.
        window: judged episodes that count.
        min_fill: of them there must be so many before it fires.
        hysteresis: it is armed again at trigger_threshold plus this (1 at most).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger_threshold: float = Field(default=0.90, le=1.0)
    window: int = Field(default=50, ge=1)
    min_fill: int = Field(default=20, ge=1)
    hysteresis: float = Field(default=0.02, ge=0.0, le=1.0)

    @field_validator("trigger_threshold")
    @classmethod
    def _above_zero(cls, threshold: float) -> float:
        if not threshold > 0.0:
            raise ValueError("no success rate is below 0, so it could never fire; give a share above 0, such as 0.9")
        return threshold

    @model_validator(mode="after")
    def _can_fill(self) -> Self:
        if self.window < self.min_fill:
            raise ValueError(
                f"a window of {self.window} episodes never holds min_fill = {self.min_fill}, so it could never fire; "
                "give a larger window or a smaller min_fill"
            )
        return self

    @property
    def rearm_at(self) -> float:
        """The success rate at which it is armed again."""
        return min(1.0, round(self.trigger_threshold + self.hysteresis, 9))  # 0.9 + 0.05 is above 0.95 in binary


class EntropySettings(BaseModel):
    """An episode whose highest score is above a threshold is flagged "pre-fail" and learned from first.

    Attributes:
        trigger_threshold: fires above it. Calibrated, 2.0 is the alarm at the calibration's level (docs/entropy.md).
        unit: "calibrated", or "bits" for raw ACE, of which no value bounds the false alarms.
        samples: N of the scores; raw bits end at log2 N.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger_threshold: float = Field(default=2.0, ge=0.0)
    unit: Literal["calibrated", "bits"] = "calibrated"
    samples: int = Field(default=8, ge=2)

    @model_validator(mode="after")
    def _in_reach(self) -> Self:
        ceiling = math.log2(self.samples)
        if self.unit == "bits" and self.trigger_threshold >= ceiling:
            raise ValueError(
                f"{self.trigger_threshold:g} bits are never passed with {self.samples} samples, whose entropy is at "
                f"most log2 {self.samples} = {ceiling:g}; give less, or more samples"
            )
        return self


class FailureRunSettings(BaseModel):
    """So many failures in a row ask for corrections at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger_threshold: int = Field(default=3, ge=1)


class Thresholds(BaseModel):
    """The three thresholds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    success_rate: SuccessRateSettings = SuccessRateSettings()
    entropy: EntropySettings = EntropySettings()
    consecutive_failures: FailureRunSettings = FailureRunSettings()


class PublishSettings(BaseModel):
    """A plain periodic swap.

    Attributes:
        every: "500 steps" of the learner, "20 episodes", "30 minutes"; None swaps for other reasons only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: str | None = None

    @field_validator("every")
    @classmethod
    def _a_period(cls, every: str | None) -> str | None:
        if every is not None:
            Every.parse(every)
        return every

    @property
    def period(self) -> Every | None:
        """The period, parsed."""
        return None if self.every is None else Every.parse(self.every)


class TriggerSettings(BaseModel):
    """When the flywheel acts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thresholds: Thresholds = Thresholds()
    publish: PublishSettings = PublishSettings()
