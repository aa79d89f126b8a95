"""Detectors against values worked out by hand and against the recurrences that define them."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.runtime.inference.conformal import CalibrationError
from flexor.runtime.inference.detectors import DETECTORS, SLACK, Reference, cusum, latest, mean_so_far, window_mean

SCORES = np.array([1.0, 2.0, 3.0, 6.0, 11.0, 0.0])
UNIT = Reference(0.0, 1.0)


def test_means_worked_out_by_hand():
    assert latest(SCORES, UNIT).tolist() == SCORES.tolist()
    assert window_mean(SCORES, UNIT).tolist() == [1.0, 1.5, 2.0, 3.0, 5.5, 5.0]  # of the last four
    assert mean_so_far(SCORES, UNIT) == pytest.approx([1.0, 1.5, 2.0, 3.0, 4.6, 23 / 6])


def test_a_cusum_worked_out_by_hand():
    # standardised: 1, -1, 2, -4, 0; less a quarter each: .75, -1.25, 1.75, -4.25, -.25
    values = np.array([12.0, 8.0, 14.0, 2.0, 10.0])
    assert cusum(values, Reference(10.0, 2.0)).tolist() == [0.75, 0.0, 1.75, 0.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_the_cusum_is_its_recurrence(seed):
    values = np.random.default_rng(seed).normal(3.0, 2.0, 60)
    reference = Reference(2.8, 1.7)
    sum_, expected = 0.0, []
    for value in values:
        sum_ = max(0.0, sum_ + (value - 2.8) / 1.7 - SLACK)
        expected.append(sum_)
    assert cusum(values, reference) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_knows_nothing_of_what_comes_later(name):
    values = np.random.default_rng(0).normal(size=30)
    whole = DETECTORS[name](values, UNIT)
    for count in (1, 2, 7, 30):
        assert DETECTORS[name](values[:count], UNIT) == pytest.approx(whole[:count], abs=1e-12)


def test_the_reference_is_mean_and_unbiased_deviation_and_refuses_what_never_varies():
    found = Reference.of(np.array([1.0, 2.0, 3.0, 4.0]))
    assert (found.mean, found.sigma) == (2.5, pytest.approx(np.sqrt(5 / 3)))
    for values in ([2.0], [2.0, 2.0, 2.0]):
        with pytest.raises(CalibrationError, match="no spread"):
            Reference.of(np.array(values))
