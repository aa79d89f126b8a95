"""The entropy scores against cases worked out by hand and against plain re-statements of their definitions."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from flexor.runtime.inference.entropy import CELL, SAMPLES, VARIANCE_FLOOR, accel, ace_bits, gauss_nats

WORKSPACE = np.array([[-0.5, -0.4, 0.0], [0.5, 0.4, 0.6]])
METRES = 0.05
CELLS = CELL * (WORKSPACE[1] - WORKSPACE[0])  # (0.03, 0.024, 0.018) m


def plain_ace(translations: np.ndarray) -> float:
    """Count cells in dictionaries, one step and one sample at a time."""
    samples, steps, _ = translations.shape
    bits = 0.0
    for step in range(steps):
        places = [METRES * translations[n, : step + 1].sum(axis=0) for n in range(samples)]
        origin = [min(place[axis] for place in places) for axis in range(3)]
        cells = Counter(
            tuple(math.floor((place[axis] - origin[axis]) / CELLS[axis]) for axis in range(3)) for place in places
        )
        bits += sum(-count / samples * math.log2(count / samples) for count in cells.values())
    return bits / steps


def standing_at(places: np.ndarray, steps: int = 5) -> np.ndarray:
    """Commands [N, steps, 3] that go to places [N, 3], counted in cells, in the first step and stay there."""
    translations = np.zeros((len(places), steps, 3))
    translations[:, 0] = places * CELLS / METRES
    return translations


def test_identical_samples_have_zero_bits() -> None:
    sample = np.random.default_rng(0).normal(size=(1, 5, 3))
    assert ace_bits(np.repeat(sample, SAMPLES, axis=0), METRES, WORKSPACE) == 0.0


def test_eight_samples_in_eight_cells_have_three_bits() -> None:
    corners = np.array([[x, y, z] for x in (0.1, 1.6) for y in (0.1, 1.6) for z in (0.1, 1.6)])
    assert ace_bits(standing_at(corners), METRES, WORKSPACE) == pytest.approx(3.0)


def test_four_against_four_is_one_bit() -> None:
    places = np.zeros((8, 3))
    places[4:, 1] = 3.5
    assert ace_bits(standing_at(places), METRES, WORKSPACE) == pytest.approx(1.0)


def test_seven_against_one_is_its_shannon_entropy() -> None:
    places = np.zeros((8, 3))
    places[3, 2] = 2.5
    expected = -(7 / 8) * math.log2(7 / 8) - (1 / 8) * math.log2(1 / 8)
    assert ace_bits(standing_at(places), METRES, WORKSPACE) == pytest.approx(expected)


def test_bits_are_averaged_over_steps_and_displacements_are_summed() -> None:
    """Half the samples drift by 0.6 cells a step: apart from the second step on, though no single step is a cell."""
    translations = np.zeros((8, 4, 3))
    translations[4:, :, 0] = 0.6 * CELLS[0] / METRES
    assert ace_bits(translations, METRES, WORKSPACE) == pytest.approx((0 + 1 + 1 + 1) / 4)


def test_a_spread_below_one_cell_has_zero_bits() -> None:
    places = np.linspace(0, 0.9, 8)[:, None] * np.ones(3)
    assert ace_bits(standing_at(places), METRES, WORKSPACE) == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_ace_equals_a_plain_count(seed: int) -> None:
    generator = np.random.default_rng(seed)
    translations = generator.normal(0, generator.uniform(0.05, 2), (SAMPLES, 5, 3)).astype(np.float32)
    expected = plain_ace(translations.astype(np.float64))
    assert ace_bits(translations, METRES, WORKSPACE) == pytest.approx(expected, abs=1e-12)


def test_gauss_nats_of_two_samples_by_hand() -> None:
    """Samples +-1 have the unbiased variance 2, in each of 3 dimensions and 2 steps."""
    actions = np.ones((2, 2, 3))
    actions[1] = -1
    assert gauss_nats(actions) == pytest.approx(3 * 0.5 * math.log(2 * math.pi * math.e * (2 + VARIANCE_FLOOR)))


def test_gauss_nats_of_many_samples_reaches_the_true_entropy() -> None:
    """7 dimensions with sigma 0.1: 7 (1/2 ln(2 pi e) + ln 0.1) = -6.19 nats."""
    actions = np.random.default_rng(0).normal(0, 0.1, (20000, 5, 7))
    assert gauss_nats(actions) == pytest.approx(-6.1855, abs=0.03)


def test_gauss_nats_of_identical_samples_is_finite() -> None:
    expected = 7 * 0.5 * math.log(2 * math.pi * math.e * VARIANCE_FLOOR)
    assert gauss_nats(np.full((8, 5, 7), 0.3)) == pytest.approx(expected)


def test_constant_velocity_has_no_accel() -> None:
    velocity = np.random.default_rng(0).normal(size=(1, 5, 7))
    assert accel(np.repeat(velocity, 10, axis=0)) == 0.0


def test_accel_by_hand() -> None:
    """Lengths 1, 1, 2 with differences sqrt(2) and 1 over p = 3 of T = 4 steps; the last step does not count."""
    velocities = np.zeros((4, 1, 2))
    velocities[:, 0] = [[1, 0], [0, 1], [0, 2], [900, 900]]
    assert accel(velocities) == pytest.approx(3 * (math.sqrt(2) + 1) / (1 + 1 + 2))


def test_accel_of_two_flow_steps_uses_both() -> None:
    assert accel(np.array([[[1.0]], [[3.0]]])) == pytest.approx(2 * 2 / 4)


@pytest.mark.parametrize("seed", range(4))
def test_accel_equals_a_plain_sum(seed: int) -> None:
    velocities = np.random.default_rng(seed).normal(size=(10, 5, 7)).astype(np.float32)
    length = [math.sqrt(sum(float(x) ** 2 for x in v.ravel())) for v in velocities[:9]]
    bends = [
        math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(b.ravel(), a.ravel(), strict=True)))
        for a, b in pairwise(velocities[:9])
    ]
    assert accel(velocities) == pytest.approx(9 * sum(bends) / sum(length))


def test_accel_does_not_depend_on_the_scale_of_velocities() -> None:
    velocities = np.random.default_rng(0).normal(size=(10, 5, 7))
    assert accel(3 * velocities) == pytest.approx(accel(velocities))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_and_never_certain(bad: float) -> None:
    values = np.random.default_rng(0).normal(size=(8, 5, 3))
    values[3, 2, 1] = bad
    for score in (accel, gauss_nats, lambda x: ace_bits(x, METRES, WORKSPACE)):
        with pytest.raises(ValueError, match="not finite"):
            score(values)


def test_velocities_that_are_all_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="all zero"):
        accel(np.zeros((10, 5, 7)))


@pytest.mark.parametrize("shape", [(1, 5, 3), (8, 0, 3), (8, 3)])
def test_scores_refuse_shapes_that_hold_no_spread(shape: tuple[int, ...]) -> None:
    for score in (accel, gauss_nats, lambda x: ace_bits(x, METRES, WORKSPACE)):
        with pytest.raises(ValueError, match="shape"):
            score(np.ones(shape))


def test_ace_wants_translations_only() -> None:
    with pytest.raises(ValueError, match=r"\[N, T, 3\]"):
        ace_bits(np.ones((8, 5, 7)), METRES, WORKSPACE)
