"""What can be set about replay."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ReplaySettings(BaseModel):
    """How episodes are drawn.

    Attributes:
        seed: of every draw, and of what the reservoir holds.
        floor: what an episode without anything to learn from counts, beside its priority.
        half_life: episodes that began later until an episode counts half.
        used_factor: what an episode counts less for each learner that is done with it.
        exponent: of the weights; 0 draws uniformly, 1 in proportion (0.6: Schaul et al., prioritized replay, 2016).
        successes: also plain successes, in which nobody intervened or advised. They show what the policy can do
            already: beside advised episodes they only dilute.
        failures: also failures in which nobody intervened or advised; for objectives that learn from them.
        alpha, window, share_low, share_high: of the online share (flexor.learner.replay.online_share).
        per_task: demonstrations of each task in the reservoir.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0)
    floor: float = Field(default=0.1, gt=0)
    half_life: float = Field(default=200.0, gt=0)
    used_factor: float = Field(default=0.5, gt=0, le=1)
    exponent: float = Field(default=0.6, ge=0)
    successes: bool = True
    failures: bool = False
    alpha: float = Field(default=1.5, gt=1)
    window: int = Field(default=200, ge=1)
    share_low: float = Field(default=0.2, ge=0, le=1)
    share_high: float = Field(default=0.8, ge=0, le=1)
    per_task: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        if self.share_low > self.share_high:
            raise ValueError(
                f"share_low is {self.share_low} and share_high is {self.share_high}; expected share_low of at most "
                "share_high"
            )
        return self
