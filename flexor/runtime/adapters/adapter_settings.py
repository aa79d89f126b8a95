"""AdapterSettings: what can be set of how a server takes adapters, and its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flexor.runtime.adapters.adapter_schema import ALPHA, RANK
from flexor.runtime.adapters.canary import PAIRS
from flexor.runtime.adapters.verification import MAX_CHANGE


class AdapterSettings(BaseModel):
    """Settings of `flexor serve --adapters`.

    Attributes:
        dir: the directory of adapters; None serves the bundle alone.
        keys: folder of public keys (*.pub.pem), one of which must have signed; None takes unsigned adapters.
        rank, alpha: that all adapters have.
        max_change: of a weight, beside its own norm.
        shadow_requests: requests that are computed with a candidate, too, before it plays; 0 leaves that out.
        max_difference: between its actions and those that were played, mean over a chunk, normalised.
        canary_episodes: at most so many of candidate and parent together; 0 leaves the canary out.
        canary_velocity: part of the robot's velocity limit that all episodes of a canary keep to.
        swap: when an adapter that was promoted, ordered or taken back reaches a session: at its next "episode", or at
            its next "chunk". One that fails is gone at once.
        latency_ratio: it is rolled back when its chunks take so many times as long as those without it.
        alarm_rate: it is rolled back when surely more of its chunks than this part are more uncertain than 95 % of its
            parent's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dir: Path | None = None
    keys: Path | None = None
    rank: int = Field(default=RANK, ge=1, le=1024)
    alpha: float = Field(default=ALPHA, gt=0)
    max_change: float = Field(default=MAX_CHANGE, gt=0)
    shadow_requests: int = Field(default=8, ge=0)
    max_difference: float = Field(default=0.5, gt=0)
    canary_episodes: int = Field(default=2 * PAIRS, ge=0, le=10_000, multiple_of=2)
    canary_velocity: float = Field(default=0.5, gt=0, le=1)
    swap: Literal["episode", "chunk"] = "episode"
    latency_ratio: float = Field(default=1.5, gt=1)
    alarm_rate: float = Field(default=0.25, gt=0.05, lt=1)
