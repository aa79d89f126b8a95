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
