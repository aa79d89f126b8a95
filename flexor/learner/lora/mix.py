"""Mix: which samples of which pool a step learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Losses = Mapping[int, Sequence[NDArray[np.float64]]]
"""By the number of a micro-batch's first sample: of its samples of each pool, in the order in which they were drawn."""


class Mix(Protocol):
    """Draws sample numbers. What it draws is a function of seeds, of numbers, and of the losses of earlier steps."""

    def draw(self, first: int, count: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """The `count` samples from number `first` of the run on, by pool; `rng` is that of their micro-batch."""
        ...

    def learned(self, losses: Losses) -> None:
        """A step is over, and its samples had these losses."""

    def told(self) -> dict[str, float]:
        """Numbers for the curves."""
        return {}

    def state(self) -> dict[str, Any]:
        """What later draws depend on besides seeds and numbers, as JSON has it."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from an earlier state()."""

    def identity(self) -> dict[str, object]:
        """What a checkpoint must agree with to be resumed."""
        return {}
