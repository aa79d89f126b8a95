"""Wilson's interval against values known from outside."""

from __future__ import annotations

import pytest

from flexor.runtime.metrics import wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        # Newcombe, Statistics in Medicine 17 (1998) 857, the score method without continuity correction.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_the_interval_equals_published_values(successes: int, n: int, low: float, high: float) -> None:
    rate, found_low, found_high = wilson(successes, n)
    assert rate == successes / n
    assert found_low == pytest.approx(low, abs=5e-5)
    assert found_high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize("n", [1, 7, 200])
def test_the_ends_solve_the_score_equation(n: int) -> None:
    """At each end p0 of the interval, |p - p0| is z standard errors of p0."""
    for successes in range(n + 1):
        rate, *ends = wilson(successes, n)
        for end in ends:
            assert (rate - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / n, abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {n}"):
        wilson(successes, n)
