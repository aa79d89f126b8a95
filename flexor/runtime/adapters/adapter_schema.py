"""AdapterSchema: what an adapter is made of, and what all adapters of one server may be made of."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flexor.pi05.config import Pi05Config
from flexor.pi05.lora_targets import PAIRS, Pairs, target_sizes

RANK, ALPHA = 8, 32.0
"""Of the adapters that flexor trains when nobody says otherwise."""


class AdapterSchema(BaseModel):
    """Rank, alpha and targets.

    Attributes:
        rank: r of every factor.
        alpha: the change is (alpha / r) B A.
        targets: projections that it changes, by their full name in the model, sorted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rank: int = Field(ge=1, le=1024)
    alpha: float = Field(gt=0, allow_inf_nan=False)
    targets: tuple[str, ...] = Field(min_length=1, strict=False)

    @field_validator("targets")
    @classmethod
    def _sorted_once(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if list(targets) != sorted(set(targets)):
            raise ValueError("expected names in order, each once")
        return targets

    @classmethod
    def of(cls, config: Pi05Config, rank: int = RANK, alpha: float = ALPHA, pairs: Pairs = PAIRS) -> AdapterSchema:
        """The schema of adapters that change all that they may of such a model, of `pairs`."""
        return cls(rank=rank, alpha=float(alpha), targets=tuple(sorted(target_sizes(config, pairs))))

    @property
    def hash(self) -> str:
        """sha256 in hex of its canonical JSON form."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def scale(self) -> float:
        """alpha / r."""
        return self.alpha / self.rank

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"rank": self.rank, "alpha": self.alpha, "targets": list(self.targets)}

    def difference(self, other: AdapterSchema) -> str:
        """Why adapters of another schema cannot be taken, in words; empty when they can: they may change fewer."""
        told = []
        if self.rank != other.rank:
            told.append(f"rank {other.rank}; expected {self.rank}")
        if not math.isclose(self.alpha, other.alpha, rel_tol=1e-9):
            told.append(f"alpha {other.alpha:g}; expected {self.alpha:g}")
        if more := set(other.targets) - set(self.targets):
            told.append(f"changes {_some(more)}, which are none of those that may be")
        return "; ".join(told)


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
