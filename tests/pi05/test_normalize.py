"""Normalisation: openpi's formulas, an exact inverse, statistics that survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flexor.pi05.normalize import Mode, Normalizer, NormStats


@pytest.fixture
def stats() -> NormStats:
    generator = np.random.default_rng(5)
    return NormStats.measure(generator.normal([0.0, 3.0, -200.0], [1.0, 1e-4, 50.0], (4000, 3)))


def test_quantiles_give_the_numbers_worked_out_by_hand() -> None:
    stats = NormStats(mean=np.zeros(1), std=np.ones(1), q01=np.asarray([2.0]), q99=np.asarray([6.0]))
    normalizer = Normalizer("quantile", stats)
    # (5 - 2) / (4 + 1e-6) * 2 - 1 and (0.5 + 1) / 2 * (4 + 1e-6) + 2
    np.testing.assert_allclose(normalizer.normalize([5.0]), [0.49999962], atol=1e-7)
    np.testing.assert_allclose(normalizer.unnormalize([0.5]), [5.00000075], atol=5e-7)
    np.testing.assert_allclose(normalizer.normalize([10.0]), [2.999999], atol=1e-6)


def test_mean_and_std_give_the_numbers_worked_out_by_hand() -> None:
    stats = NormStats(mean=np.asarray([1.0]), std=np.asarray([0.5]), q01=np.zeros(1), q99=np.ones(1))
    normalizer = Normalizer("mean_std", stats)
    np.testing.assert_allclose(normalizer.normalize([2.0]), [1.0 / 0.500001], rtol=1e-6)
    np.testing.assert_allclose(normalizer.unnormalize([-2.0]), [1.0 - 2.0 * 0.500001], atol=1e-6)


@pytest.mark.parametrize("mode", ["quantile", "mean_std"])
def test_the_inverse_undoes_it_to_float32_rounding(mode: Mode, stats: NormStats) -> None:
    normalizer = Normalizer(mode, stats)
    values = np.random.default_rng(1).normal(0.0, 2.0, (50, 10, 3)).astype(np.float32)
    np.testing.assert_allclose(normalizer.normalize(normalizer.unnormalize(values)), values, rtol=0, atol=5e-3)
    robot = (values * stats.std * 3 + stats.mean).astype(np.float32)
    span = 2 * np.abs(robot).max(axis=(0, 1))
    assert (np.abs(normalizer.unnormalize(normalizer.normalize(robot)) - robot) <= 2.0**-23 * span).all()


@pytest.mark.parametrize("mode", ["quantile", "mean_std"])
def test_a_constant_channel_stays_finite_and_comes_back(mode: Mode) -> None:
    normalizer = Normalizer(mode, NormStats.measure(np.full((10, 2), 0.25)))
    normalised = normalizer.normalize([0.25, 0.25])
    assert np.isfinite(normalised).all()
    np.testing.assert_array_equal(normalizer.unnormalize(normalised), np.full(2, 0.25, dtype=np.float32))


def test_channels_beyond_the_statistics_pass_through(stats: NormStats) -> None:
    normalizer = Normalizer("quantile", stats)
    padded = np.asarray([[0.0, 3.0, -200.0, 7.0, 8.0]])
    assert normalizer.normalize(padded)[0, 3:].tolist() == [7.0, 8.0]
    assert normalizer.unnormalize(padded)[0, 3:].tolist() == [7.0, 8.0]
    np.testing.assert_array_equal(normalizer.normalize(padded)[:, :3], normalizer.normalize(padded[:, :3]))


def test_the_given_array_is_never_changed(stats: NormStats) -> None:
    values = np.ones((2, 3), dtype=np.float32)
    Normalizer("quantile", stats).normalize(values)
    assert (values == 1.0).all()


def test_too_few_channels_are_refused(stats: NormStats) -> None:
    with pytest.raises(ValueError, match=r"shape \[2\]; expected \[..., 3\]"):
        Normalizer("quantile", stats).normalize(np.zeros(2))


def test_an_unknown_mode_is_refused(stats: NormStats) -> None:
    with pytest.raises(ValueError, match="mode 'minmax' is unknown; expected one of quantile, mean_std"):
        Normalizer("minmax", stats)  # type: ignore[arg-type]


def test_measured_quantiles_are_those_of_the_samples() -> None:
    stats = NormStats.measure(np.linspace(0.0, 100.0, 101)[:, None])
    assert (stats.q01.tolist(), stats.q99.tolist(), stats.mean.tolist()) == ([1.0], [99.0], [50.0])


def test_a_floor_widens_a_narrow_channel_about_its_middle_only() -> None:
    samples = np.stack((np.linspace(0.0, 100.0, 101), np.linspace(0.4, 0.402, 101)), axis=1)
    stats = NormStats.measure(samples, floor=0.05)
    np.testing.assert_allclose(stats.q01, [1.0, 0.376])
    np.testing.assert_allclose(stats.q99, [99.0, 0.426])


def test_statistics_survive_json(stats: NormStats) -> None:
    back = NormStats.from_dict(json.loads(json.dumps(stats.to_dict())))
    for name in ("mean", "std", "q01", "q99"):
        np.testing.assert_array_equal(getattr(back, name), getattr(stats, name))


def test_bad_statistics_are_refused_by_name(stats: NormStats) -> None:
    values = stats.to_dict()
    with pytest.raises(ValueError, match="key 'q99' is missing"):
        NormStats.from_dict({name: values[name] for name in ("mean", "std", "q01")})
    with pytest.raises(ValueError, match="key 'median' is unknown"):
        NormStats.from_dict({**values, "median": [0.0] * 3})
    with pytest.raises(ValueError, match=r"q01 has shape \[2\]"):
        NormStats.from_dict({**values, "q01": [0.0, 0.0]})
    with pytest.raises(ValueError, match=r"std\[1\] is not a finite number"):
        NormStats.from_dict({**values, "std": [1.0, float("nan"), 1.0]})
    with pytest.raises(ValueError, match=r"std\[0\] is negative"):
        NormStats.from_dict({**values, "std": [-1.0, 1.0, 1.0]})
    with pytest.raises(ValueError, match=r"q99\[2\] lies below q01"):
        NormStats.from_dict({**values, "q99": [9.0, 9.0, -1000.0]})
    with pytest.raises(ValueError, match=r"expected \[n, D\]"):
        NormStats.measure(np.zeros((0, 3)))


def test_min_max_follows_its_formula_with_the_epsilon_given() -> None:
    stats = NormStats(min=np.asarray([2.0]), max=np.asarray([6.0]))
    normalizer = Normalizer("min_max", stats, epsilon=1e-2)
    np.testing.assert_allclose(normalizer.normalize([[3.0]]), [[(3 - 2) / (4 + 1e-2) * 2 - 1]], rtol=1e-6)
    np.testing.assert_allclose(normalizer.unnormalize([[0.5]]), [[(0.5 + 1) / 2 * (4 + 1e-2) + 2]], rtol=1e-6)


def test_statistics_may_be_of_one_pair_alone_and_only_serve_its_mode() -> None:
    stats = NormStats.from_dict({"mean": [1.0, 2.0], "std": [0.5, 0.5]})
    assert stats.dim == 2 and stats.to_dict() == {"mean": [1.0, 2.0], "std": [0.5, 0.5]}
    assert stats.first(1).to_dict() == {"mean": [1.0], "std": [0.5]}
    with pytest.raises(ValueError, match="'quantile' needs q01 and q99, which were not measured"):
        Normalizer("quantile", stats)
    with pytest.raises(ValueError, match="norm stats are empty"):
        NormStats.from_dict({})
    with pytest.raises(ValueError, match=r"max\[0\] lies below min"):
        NormStats(min=np.ones(1), max=np.zeros(1))
