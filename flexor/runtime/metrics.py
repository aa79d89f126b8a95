"""Numbers that success is reported in."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def wilson(successes: int, n: int) -> tuple[float, float, float]:
    """Success rate and its 95 % Wilson score interval.

    (p + z^2/2n +- z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n), E. B. Wilson, JASA 22 (1927) 209.

    Args:
        successes: 0..n.
        n: episodes, 1 or more.

    Returns:
        (rate, low, high), each in 0..1.

    Raises:
        ValueError: counts that cannot be.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} episodes; expected 0..n successes of at least 1 episode")
    rate = successes / n
    z2 = Z95 * Z95
    middle = rate + z2 / (2 * n)
    half = Z95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    # Rounding may leave 1e-17 where the formula says exactly 0 or 1.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return rate, low, high


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test: two arms played the same episodes; do they succeed equally often?

    Pairs in which both arms did the same say nothing. Were the arms equal, each other pair would go either way with
    probability 1/2: p = min(1, 2 sum_{k <= min(b, c)} C(b + c, k) / 2^(b + c)), Q. McNemar, Psychometrika 12 (1947)
    153, with the binomial distribution instead of its approximation.

    Args:
        first_only: b, pairs in which only the first arm succeeded.
        second_only: c, pairs in which only the second did.

    Returns:
        p in 0..1; 1 when no pair differs.

    Raises:
        ValueError: a negative count.
    """
    if first_only < 0 or second_only < 0:
        raise ValueError(f"{first_only} and {second_only} pairs that differ; expected counts of 0 or more")
    n = first_only + second_only
    tail = sum(math.comb(n, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / 2**n)  # whole numbers up to the division, which Python rounds correctly at any size
