"""The canary's test: hand-computed cases, its errors counted exactly, and 10,000 simulated trials."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.runtime.adapters.canary import (
    ALPHA,
    BAR,
    MARGIN,
    PAIRS,
    CanaryTest,
    money_against,
    money_for,
    probabilities,
    worst_case,
)
from flexor.runtime.adapters.canary_simulation import simulate_canaries
from flexor.runtime.adapters.trial import Trial

OFTEN = np.linspace(0.0, 1.0, 41).tolist()


def feed(*pairs: tuple[int, int], max_pairs: int = PAIRS) -> CanaryTest:
    test = CanaryTest(max_pairs)
    for candidate, parent in pairs:
        test.observe(bool(candidate), bool(parent))
    return test


def test_money_is_what_one_computes_by_hand() -> None:
    # A win multiplies the stakes by 1.44, 1.77 and 2.1, a loss by 0.64, 0.37 and 0.1, a tie by 1.04, 1.07 and 1.1.
    assert money_for(4, 4, 0) == pytest.approx((1.44**4 + 1.77**4 + 2.1**4) / 3)
    assert money_for(1, 0, 1) == pytest.approx((0.64 + 0.37 + 0.1) / 3)
    assert money_for(20, 0, 0) == pytest.approx((1.04**20 + 1.07**20 + 1.1**20) / 3)
    assert money_for(3, 1, 1) == pytest.approx((1.44 * 0.64 * 1.04 + 1.77 * 0.37 * 1.07 + 2.1 * 0.1 * 1.1) / 3)
    assert money_against(0, 4) == pytest.approx((1.3**4 + 1.6**4 + 1.9**4) / 3)
    assert money_against(2, 1) == pytest.approx((0.7**2 * 1.3 + 0.4**2 * 1.6 + 0.1**2 * 1.9) / 3)


def test_five_wins_in_a_row_promote_and_four_do_not() -> None:
    assert feed(*[(1, 0)] * 4).verdict is None  # 11.19
    assert feed(*[(1, 0)] * 5).verdict == "promote"  # 21.47


def test_six_losses_in_a_row_reject_before_anything_else_is_said() -> None:
    test = CanaryTest()
    verdicts = [test.observe(False, True) for _ in range(6)]
    assert verdicts == [None] * 5 + ["reject"]  # 13.5 after five, 23.0 after six


def test_two_that_never_fail_cannot_be_told_apart_in_twenty_pairs() -> None:
    test = CanaryTest()
    while test.verdict is None:
        test.observe(True, True)
    assert test.verdict == "insufficient"
    assert test.money_for < BAR
    longer = CanaryTest(100)
    while longer.verdict is None:
        longer.observe(True, True)
    assert (longer.verdict, longer.bar, longer.pairs) == ("promote", 20.0, 40)


def test_a_trial_ends_as_soon_as_winning_all_that_is_left_would_not_promote() -> None:
    # After two losses and ten ties, eight wins would still make 15.6; one tie more, and seven would make 9.6.
    test = feed(*[(0, 1)] * 2, *[(1, 1)] * 10)
    assert test.verdict is None
    assert test.observe(True, True) == "insufficient"
    with pytest.raises(ValueError, match="begin another one"):
        test.observe(True, False)


def test_of_candidates_ten_points_worse_at_most_one_in_twenty_is_promoted_whatever_the_rates() -> None:
    assert worst_case(-MARGIN, "promote", OFTEN) <= ALPHA
    assert worst_case(-MARGIN, "promote", OFTEN, max_pairs=60) <= ALPHA


def test_of_candidates_as_good_as_their_parent_at_most_one_in_twenty_is_rejected() -> None:
    assert worst_case(0.0, "reject", OFTEN) <= ALPHA


def test_the_counted_probabilities_are_those_of_simulated_trials() -> None:
    parent, candidate = 0.6, 0.9
    ends, pairs = probabilities(candidate * (1 - parent), parent * (1 - candidate))
    told = simulate_canaries(parent, candidate, 4000, seed=1)
    assert told["promote"] == pytest.approx(ends["promote"], abs=0.03)
    assert told["episodes_mean"] == pytest.approx(2 * pairs, rel=0.03)
    assert sum(ends.values()) == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("parent", [0.5, 0.7, 0.9, 0.98])
def test_of_ten_thousand_canaries_twenty_points_worse_at_most_five_per_cent_are_promoted(parent: float) -> None:
    for shared in (False, True):
        told = simulate_canaries(parent, parent - 0.2, 10_000, seed=0, shared=shared)
        print(f"parent {parent:g}, candidate {parent - 0.2:g}, shared seeds {shared}: {told}")
        assert told["promote"] <= 0.05
        assert told["episodes_mean"] <= 2 * PAIRS


def test_a_trial_gives_each_pair_one_of_both_and_the_same_seed_to_both_halves() -> None:
    trial, arms = Trial(seed=3), {}
    for seed in range(PAIRS):
        for _ in range(2):
            place = trial.assign(("task", seed))
            assert place is not None
            arms.setdefault(seed, []).append(place)
            assert trial.ended(*place, success=place[1] == 0) in (None, "insufficient", "reject")
            if trial.to_dict()["verdict"]:
                break
        if trial.to_dict()["verdict"]:
            break
    for places in arms.values():
        assert len({number for number, _ in places}) == 1
        assert {arm for _, arm in places} == {True, False}
    assert len({places[0][1] for places in arms.values()}) == 2, "the order is drawn"
    assert trial.assign(("task", 99)) is None


def test_pairs_count_in_the_order_in_which_they_began_and_those_without_an_outcome_do_not() -> None:
    trial = Trial(seed=0)
    places = [trial.assign(seed) for seed in range(6)]
    assert all(place is not None for place in places)
    first = [place for place in places if place is not None and place[0] == 0]
    for place in places[2:]:
        assert place is not None
        assert trial.ended(*place, success=place[1]) is None
    assert trial.to_dict()["pairs"] == 0, "the first pair still plays"
    trial.ended(*first[0], success=None)
    trial.ended(*first[1], success=True)
    assert (trial.to_dict()["pairs"], trial.to_dict()["wins"]) == (2, 2)


def test_a_trial_whose_episodes_all_end_unknown_ends_without_evidence() -> None:
    trial, verdict = Trial(max_episodes=4), None
    while (place := trial.assign("x")) is not None:
        verdict = trial.ended(*place, success=None)
    assert verdict == "insufficient"
    assert trial.to_dict()["begun"] == 4
