"""Split conformal thresholds: the right order statistic, the promised share of false alarms, and what is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexor.runtime.inference.conformal import CalibrationError, Threshold, conformal_quantile, fewest, threshold

GOOD = [1.0, 1.5, 1.2, 1.9, 1.1, 1.7, 1.3, 1.4, 1.6]  # nine episodes, the fewest for alpha 0.1


@pytest.mark.parametrize(
    ("count", "alpha", "rank"), [(9, 0.1, 9), (19, 0.1, 18), (50, 0.1, 46), (19, 0.05, 19), (10, 0.2, 9), (1, 0.5, 1)]
)
def test_the_quantile_is_the_order_statistic_that_was_worked_out_by_hand(count, alpha, rank):
    values = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(values.tolist(), alpha) == rank


@pytest.mark.parametrize("alpha", ["0.01", "0.05", "0.1", "0.15", "0.2", "0.3", "0.5", "0.7"])
def test_the_rank_is_that_of_exact_fractions_for_every_count(alpha):
    exact = Fraction(alpha)
    assert fewest(float(alpha)) == max(1, math.ceil(1 / exact) - 1)
    for count in range(fewest(float(alpha)), 400):
        rank = math.ceil((count + 1) * (1 - exact))
        assert conformal_quantile([float(value) for value in range(1, count + 1)], float(alpha)) == rank


def test_one_episode_too_few_is_refused_with_the_number_that_is_needed():
    assert conformal_quantile(GOOD, 0.1) == 1.9
    with pytest.raises(CalibrationError, match=r"8 good episodes are too few for alpha 0.1; expected at least 9"):
        conformal_quantile(GOOD[:8], 0.1)
    with pytest.raises(CalibrationError, match="at least 19"):
        conformal_quantile(GOOD * 2, 0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(CalibrationError, match="alpha"):
        conformal_quantile(GOOD, alpha)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_no_certainty_but_an_error(wrong):
    with pytest.raises(CalibrationError, match="not finite"):
        conformal_quantile([*GOOD, wrong], 0.1)
    with pytest.raises(CalibrationError, match="cannot be calibrated"):
        Threshold(1.0).calibrated(wrong)


@pytest.mark.parametrize(("count", "alpha"), [(9, 0.1), (50, 0.1), (50, 0.2), (120, 0.05)])
def test_good_episodes_raise_false_alarms_as_often_as_promised_and_no_more(count, alpha):
    """Of M + 1 exchangeable maxima of correlated chunks the last is above the threshold in 1 - rank / (M + 1)."""
    generator = np.random.default_rng(20)
    trials, chunks = 6000, 12
    noise = generator.normal(size=(trials, count + 1, chunks))
    episodes = np.exp(noise.mean(axis=2, keepdims=True) * 2 + 0.5 * noise).max(axis=2)
    alarms = sum(float(row[-1]) > conformal_quantile(row[:-1].tolist(), alpha) for row in episodes)
    expected = 1 - math.ceil(round((count + 1) * (1 - alpha), 6)) / (count + 1)
    error = math.sqrt(expected * (1 - expected) / trials)
    assert expected <= alpha + 1e-12
    assert abs(alarms / trials - expected) < 3.5 * error


def test_scores_that_are_never_negative_are_scaled_so_that_tau_is_two():
    ace = threshold("ace_bits", GOOD, 0.1, 8)
    assert ace == Threshold(1.9, None)
    assert [ace.calibrated(raw) for raw in (0.0, 0.95, 1.9, 2.85)] == pytest.approx([0.0, 1.0, 2.0, 3.0])


def test_signed_scores_are_counted_from_tau_in_standard_deviations_of_the_maxima():
    maxima = [float(value) for value in range(-13, -4)]  # -13 .. -5: standard deviation sqrt(60 / 8)
    gauss = threshold("gauss_nats", maxima, 0.1, 8)
    assert gauss.tau == -5.0
    assert gauss.sigma == pytest.approx(math.sqrt(7.5))
    assert gauss.calibrated(-5.0) == 2.0
    assert gauss.calibrated(-5.0 + math.sqrt(7.5)) == pytest.approx(3.0)
    assert gauss.calibrated(-5.0 - 4 * math.sqrt(7.5)) == pytest.approx(-2.0)


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.none() | st.floats(1e-3, 1e3))
def test_a_calibrated_score_is_above_two_only_where_the_raw_one_is_above_tau(tau, raw, sigma):
    calibrated = Threshold(tau, sigma).calibrated(raw)
    if raw <= tau:
        assert calibrated <= 2.0
    elif raw - tau > 1e-9 * max(1.0, tau, sigma or 0.0):
        assert calibrated > 2.0


@pytest.mark.parametrize(
    ("score", "maxima", "why"),
    [
        ("ace_bits", [0.0] * 9, "the samples of good episodes never differ"),
        ("accel", [0.0] * 9, "the samples of good episodes never differ"),
        ("ace_bits", [*GOOD[:8], 2.86], r"2.860 bits, above 2.850 = 0.95 log2 N of 8 samples"),
        ("gauss_nats", [-3.0] * 9, "its scale is 0"),
        ("entropy", GOOD, "unknown score 'entropy'"),
    ],
)
def test_a_threshold_that_means_nothing_is_refused(score, maxima, why):
    with pytest.raises(CalibrationError, match=why):
        threshold(score, maxima, 0.1, 8)


def test_the_ceiling_is_that_of_the_number_of_samples():
    assert threshold("ace_bits", [*GOOD[:8], 2.84], 0.1, 8).tau == 2.84
    assert threshold("ace_bits", [*GOOD[:8], 3.7], 0.1, 16).tau == 3.7
    assert threshold("accel", [*GOOD[:8], 3.7], 0.1, 8).tau == 3.7  # accel has no ceiling
