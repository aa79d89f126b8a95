"""A policy without an engine that carries adapters: its actions spell out which weights lie in the slot it uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.observation import ActionChunk, Observation, Provenance

HORIZON, ACTION_DIM, SLOTS = 10, 7, 4


class AdaptedPolicy:
    """Of a bundle, without a look at its weights: what starts in a moment can be killed often.

    Attributes:
        slots: that it has.
    """

    slots = SLOTS

    def __init__(self) -> None:
        self._sums = [0.0] * SLOTS
        self._last = np.zeros((HORIZON, ACTION_DIM), np.float32)

    def describe(self) -> dict[str, Any]:
        return {"bundle": "fake", "hash": "0" * 64, "cameras": ["agentview", "wrist"], "horizon": HORIZON, "hz": 20.0}

    def warm_up(self) -> None:
        pass

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        self._sums[slot] = 0.0 if tensors is None else sum(float(np.abs(array).mean()) for array in tensors.values())

    def infer(
        self,
        observation: Observation,
        noise_seed: int,
        action_prefix: NDArray[np.float32] | None = None,
        slot: int = 0,
    ) -> ActionChunk:
        self._last = np.full((HORIZON, ACTION_DIM), self._sums[slot], np.float32)
        by = Provenance("fake@000000000000", "base", "fake", "cpu", "fp32", 10, noise_seed)
        return ActionChunk(self._last, by, {"total": 0.1}, {})

    def surprise(self, noise_seed: int) -> dict[str, float]:
        return {"ace_bits": 1.0, "gauss_nats": 0.0}

    def shadow(self, noise_seed: int, slot: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._last, np.full_like(self._last, self._sums[slot])
