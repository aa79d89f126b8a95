"""Wilson's interval and McNemar's test against values known from outside."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from flexor.runtime.metrics import mcnemar, wilson


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


@pytest.mark.parametrize(
    ("first_only", "second_only", "p"),
    [
        # Airway hyper-responsiveness of 21 children: Fagerland, Lydersen and Laake, BMC Medical Research
        # Methodology 13 (2013) 91, table 1 (1 and 7 pairs differ), exact conditional test: 2 (1 + 8) / 2^8.
        (1, 7, 0.0703125),
        (12, 5, 0.1435),
        # By hand: 2 (1 + 10 + 45) / 2^10, and 2 / 2^6.
        (2, 8, 0.109375),
        (0, 6, 0.03125),
        (3, 3, 1.0),
        (0, 0, 1.0),
        (1, 0, 1.0),
    ],
)
def test_mcnemars_exact_test_equals_known_values(first_only: int, second_only: int, p: float) -> None:
    assert mcnemar(first_only, second_only) == pytest.approx(p, abs=5e-5)
    assert mcnemar(second_only, first_only) == mcnemar(first_only, second_only)


@pytest.mark.parametrize("n", range(1, 11))
def test_mcnemars_p_is_the_share_of_all_coin_tosses_that_are_as_uneven(n: int) -> None:
    """Every way in which n pairs that differ could have gone, counted one by one."""
    heads = [sum(tosses) for tosses in itertools.product((0, 1), repeat=n)]
    for first_only in range(n + 1):
        as_uneven = sum(abs(2 * k - n) >= abs(2 * first_only - n) for k in heads)
        assert mcnemar(first_only, n - first_only) == float(Fraction(as_uneven, 2**n))


def test_mcnemars_test_holds_for_thousands_of_pairs() -> None:
    assert mcnemar(0, 1000) == 2.0**-999
    assert mcnemar(2500, 2500) == 1.0
    assert 0.0 < mcnemar(2400, 2600) < mcnemar(2450, 2550) < 1.0


@pytest.mark.parametrize(("first_only", "second_only"), [(-1, 5), (5, -1)])
def test_negative_pairs_are_refused(first_only: int, second_only: int) -> None:
    with pytest.raises(ValueError, match="expected counts of 0 or more"):
        mcnemar(first_only, second_only)
