"""Watch: whether an adapter that is active does worse than what was there before. Pure statistics, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_CHUNKS = 50
LEAST_MS = 5.0
"""Longer than before, beside the ratio: what a busy machine adds to a short chunk is no fault of an adapter."""

LEAST_EPISODES = 20
"""Of the parent, before its success rate says anything."""

MARGIN = 0.10
SURE = 20.0
"""1 / 0.05, of episodes."""

SURE_OF_CHUNKS = 1000.0
"""1 / 0.001: chunks of one episode resemble each other, so that more of them have to agree."""

STAKES = (0.2, 0.5, 0.8)


def is_slower(before_ms: Sequence[float], now_ms: Sequence[float], ratio: float) -> str | None:
    """Whether chunks take `ratio` times as long as before, medians, in words; None where not, or too few were seen."""
    if min(len(before_ms), len(now_ms)) < LEAST_CHUNKS:
        return None
    before, now = float(np.median(before_ms)), float(np.median(now_ms))
    if now > max(ratio * before, before + LEAST_MS):
        return (
            f"its chunks take {now:.1f} ms, and took {before:.1f} ms without it; at most {ratio:g} times that is taken"
        )
    return None


def is_alarming(before_bits: Sequence[float], now_bits: Sequence[float], rate: float) -> str | None:
    """Whether surely more than `rate` of the chunks are more uncertain than 95 % of those before, in words."""
    if min(len(before_bits), len(now_bits)) < LEAST_CHUNKS:
        return None
    limit = float(np.quantile(before_bits, 0.95))
    alarms = sum(bits > limit for bits in now_bits)
    if money(alarms, len(now_bits) - alarms, rate) >= SURE_OF_CHUNKS:
        return (
            f"{alarms} of its last {len(now_bits)} chunks are more uncertain than {limit:.2f} bits, as 5 % were before;"
            f" at most {rate:.0%} are taken"
        )
    return None


def is_worse(before: tuple[int, int], now: tuple[int, int]) -> str | None:
    """Whether it surely succeeds MARGIN less often than its parent did, in words.

    Args:
        before, now: successes and episodes of the parent, and of the adapter since it is active.
    """
    successes, episodes = before
    if episodes < LEAST_EPISODES:
        return None
    rate = successes / episodes - MARGIN
    won, played = now
    if rate > 0 and money(played - won, won, 1.0 - rate) >= SURE:
        return f"it succeeded in {won} of {played} episodes, its parent in {successes} of {episodes}"
    return None


def money(hits: int, misses: int, rate: float) -> float:
    """What 1 has become that was bet on hits, against the claim that their probability is at most `rate`.

    Testing by betting, as in `canary`: a stake x of what there is wins x (1 - rate) / rate with a hit and is lost with
    a miss, so that it grows in no expectation while the claim holds. In logarithms, for it can be large.
    """
    grown = [hits * np.log1p(x * (1 - rate) / rate) + misses * np.log1p(-x) for x in STAKES]
    return float(np.exp(np.minimum(np.logaddexp.reduce(grown) - np.log(len(STAKES)), 700.0)))
