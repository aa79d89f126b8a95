"""SilentPolicy: answers zeros at once, so that what a request takes is the wire's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.observation import ActionChunk, Observation, Provenance

HORIZON, ACTION_DIM = 10, 7


class SilentPolicy:
    """A policy without an engine: actions float32 [10, 7], all zero, whatever is asked."""

    def describe(self) -> dict[str, Any]:
        """What hello tells."""
        return {"bundle": "silent", "cameras": [], "horizon": HORIZON, "action_dim": ACTION_DIM}

    def warm_up(self) -> None:
        """Nothing to warm."""

    def infer(
        self, observation: Observation, noise_seed: int, action_prefix: NDArray[np.float32] | None = None
    ) -> ActionChunk:
        """Zeros, without a look at the observation."""
        provenance = Provenance("silent", "base", "none", "cpu", "fp32", 10, noise_seed)
        return ActionChunk(np.zeros((HORIZON, ACTION_DIM), np.float32), provenance, {"total": 0.0}, {})

    def surprise(self, noise_seed: int) -> dict[str, float]:
        """Nothing to score."""
        return {}
