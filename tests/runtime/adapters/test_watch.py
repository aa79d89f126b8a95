"""What takes an adapter back by figures alone, by hand-computed cases and by how often it would be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.runtime.adapters.shadow import Shadow
from flexor.runtime.adapters.watch import is_alarming, is_slower, is_worse, money


def test_money_is_what_one_computes_by_hand() -> None:
    # Against "hits at most half the time", stakes of 0.2, 0.5 and 0.8 win as much as they lose.
    assert money(3, 1, 0.5) == pytest.approx((1.2**3 * 0.8 + 1.5**3 * 0.5 + 1.8**3 * 0.2) / 3)
    assert money(1, 0, 0.25) == pytest.approx((1.6 + 2.5 + 3.4) / 3)
    assert money(10_000, 0, 0.01) > 1e300, "and not an overflow"


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_while_hits_are_as_rare_as_claimed_money_hardly_ever_becomes_twenty(rate: float) -> None:
    hits = np.random.default_rng(0).random((2000, 60)) < rate
    rich = 0
    for run in hits:
        counts = np.cumsum(run)
        rich += any(money(int(won), step + 1 - int(won), rate) >= 20.0 for step, won in enumerate(counts))
    assert rich <= 0.05 * len(hits)


def test_slower_needs_both_the_ratio_and_five_milliseconds_and_fifty_chunks() -> None:
    assert is_slower([10.0] * 50, [16.0] * 50, 1.5)
    assert is_slower([10.0] * 50, [14.9] * 50, 1.5) is None
    assert is_slower([2.0] * 50, [6.0] * 50, 1.5) is None, "a busy machine does that"
    assert is_slower([10.0] * 49, [90.0] * 50, 1.5) is None


def test_a_few_more_alarms_are_none_and_half_of_all_chunks_are() -> None:
    before = np.linspace(0.0, 1.0, 100).tolist()
    assert is_alarming(before, [2.0] * 10 + [0.5] * 90, 0.25) is None
    assert is_alarming(before, [2.0] * 60 + [0.5] * 40, 0.25)


def test_worse_than_its_parent_needs_a_parent_that_was_seen() -> None:
    assert is_worse((5, 5), (0, 30)) is None
    assert is_worse((45, 50), (3, 20))
    assert is_worse((45, 50), (16, 20)) is None
    assert is_worse((0, 50), (0, 50)) is None


def test_a_shadow_is_rejected_for_what_it_asks_for_and_passes_when_it_is_near() -> None:
    played = np.zeros((10, 7), np.float32)
    near = Shadow(2, 0.5)
    assert near.observe(played, played + 0.2) is None
    assert not near.passed
    assert near.observe(played, played + 0.4) is None
    assert near.passed and near.difference == pytest.approx(0.3)
    assert "differ by 0.900" in str(Shadow(1, 0.5).observe(played, played + 0.9))
    assert "at most 3.00" in str(Shadow(9, 0.5).observe(played, played + 3.5))
    assert "not finite" in str(Shadow(9, 0.5).observe(played, np.full_like(played, np.nan)))
