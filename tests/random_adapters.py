"""Random LoRA factors that move actions, and the rank and alpha that tests write adapters with."""

from __future__ import annotations

import numpy as np

from flexor.pi05.config import Pi05Config
from flexor.pi05.lora_targets import PAIRS, Pairs, target_sizes

RANK, ALPHA = 4, 8.0
Factors = dict[str, tuple[np.ndarray, np.ndarray]]


def draw_factors(
    config: Pi05Config, seed: int = 0, size: float = 0.05, rank: int = RANK, pairs: Pairs = PAIRS
) -> Factors:
    """Factors of all projections of `pairs`; size: of a number of the change, beside one of N(0, 1 / in)."""
    rng = np.random.default_rng(seed)
    return {
        name: (
            rng.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32),
            rng.normal(0, size * rank**0.5 / ALPHA, (outputs, rank)).astype(np.float32),
        )
        for name, (inputs, outputs) in target_sizes(config, pairs).items()
    }
