"""Simulated canaries: how often candidates of known success rates are promoted, and how long that takes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from flexor.runtime.adapters.canary import PAIRS, CanaryTest


def simulate_canaries(
    parent: float, candidate: float, n: int, seed: int, max_pairs: int = PAIRS, shared: bool = False
) -> dict[str, Any]:
    """Run `n` trials.

    Args:
        parent, candidate: their success rates.
        shared: both play the same scenes, and a scene that the worse one solves the better one solves, too.

    Returns:
        promote, reject, insufficient: parts of the trials; episodes_mean, episodes_p90: both policies together.
    """
    draws = np.random.default_rng(seed).random((n, max_pairs, 2))
    if shared:
        draws[..., 1] = draws[..., 0]
    succeeded = draws < (candidate, parent)
    ends: Counter[str] = Counter()
    lengths = []
    for trial in succeeded:
        test = CanaryTest(max_pairs)
        for mine, theirs in trial.tolist():
            if test.observe(mine, theirs) is not None:
                break
        ends[test.give_up()] += 1
        lengths.append(2 * test.pairs)
    told = {verdict: ends[verdict] / n for verdict in ("promote", "reject", "insufficient")}
    return {**told, "episodes_mean": float(np.mean(lengths)), "episodes_p90": float(np.percentile(lengths, 90))}
