"""Wilson's interval, McNemar's test and the figures of a success matrix against values known from outside."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from flexor.runtime.metrics import Cell, Count, Figure, mcnemar, paired_difference, stream_figures, weighted_sum, wilson


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


def test_a_paired_difference_equals_the_published_example() -> None:
    """Altman et al., Statistics with Confidence (2000), page 52: 20 and 16 pairs alike, 12 and 2 not."""
    difference, low, high = paired_difference(20, 2, 12, 16)
    assert (difference, low, high) == pytest.approx((0.20, 0.056, 0.329), abs=5e-4)
    assert paired_difference(20, 12, 2, 16) == pytest.approx((-difference, -high, -low))


def test_a_paired_difference_without_correlation_is_that_of_independent_rates() -> None:
    terms = [(Fraction(1), (10, 40)), (Fraction(-1), (20, 40))]
    assert paired_difference(5, 15, 5, 15) == pytest.approx(weighted_sum(terms))  # 5 * 15 = 15 * 5: phi is 0
    assert paired_difference(3, 0, 0, 0)[0] == 0.0  # no rate varies: phi is not defined


def test_pairs_that_agree_make_the_difference_known_better() -> None:
    alike, crossed = paired_difference(90, 5, 5, 0), paired_difference(94, 1, 1, 4)
    assert alike[0] == crossed[0] == 0.0
    assert crossed[2] - crossed[1] < alike[2] - alike[1]


def test_nineteen_in_twenty_intervals_hold_the_difference() -> None:
    """Arms that share most of their luck, as two precisions of one policy do."""
    generator = np.random.default_rng(0)
    chances = [0.90, 0.05, 0.03, 0.02]  # both, first only, second only, neither
    intervals = [paired_difference(*map(int, counts)) for counts in generator.multinomial(200, chances, 4000)]
    held = np.mean([low <= -0.02 <= high for _, low, high in intervals])
    assert 0.94 <= held <= 0.98


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (1, -1, 0, 0)])
def test_pairs_that_cannot_be_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected counts, not all of them 0"):
        paired_difference(*counts)


def a(*rows: str) -> dict[Cell, Count]:
    """A matrix of counts out of ten: a row a stage, "-" a cell that was not played."""
    cells = {(s, i): word for s, row in enumerate(rows) for i, word in enumerate(row.split())}
    return {cell: (int(word), 10) for cell, word in cells.items() if word != "-"}


THREE = a(
    "9 1 0",
    "5 8 2",
    "6 4 10",
)


def test_the_figures_of_three_tasks_are_those_worked_out_by_hand() -> None:
    figures = {name: figure.value for name, figure in stream_figures(THREE, 3).items()}
    assert figures == {
        "asr": pytest.approx((0.6 + 0.4 + 1.0) / 3),
        "bwt": pytest.approx(((0.6 - 0.9) + (0.4 - 0.8)) / 2),  # -0.35
        # Task 1: ((0.9 - 0.5) + (0.9 - 0.6)) / 2, task 2: 0.8 - 0.4, task 3: nothing; the mean of all three.
        "nbt": pytest.approx((0.35 + 0.4 + 0.0) / 3),
        "f": pytest.approx(((0.9 - 0.6) + (0.8 - 0.4)) / 2),
        "auc": pytest.approx(((0.9 + 0.5 + 0.6) / 3 + (0.8 + 0.4) / 2 + 1.0) / 3),
    }


def test_forgetting_counts_from_the_best_before_the_end_and_not_from_the_diagonal() -> None:
    late_best = stream_figures(a("5 0 0", "9 8 0", "6 9 1"), 3)
    assert late_best["f"].value == pytest.approx(((0.9 - 0.6) + (0.8 - 0.9)) / 2)
    assert late_best["bwt"].value == pytest.approx(((0.6 - 0.5) + (0.9 - 0.8)) / 2)


def test_the_signs_of_a_stream_that_forgets_everything_and_of_one_that_keeps_everything() -> None:
    lost = {name: figure.value for name, figure in stream_figures(a("10 0 0", "0 10 0", "0 0 10"), 3).items()}
    assert lost == {
        "asr": pytest.approx(1 / 3), "bwt": -1.0, "nbt": pytest.approx(2 / 3), "f": 1.0,
        "auc": pytest.approx((1 / 3 + 1 / 2 + 1) / 3),
    }  # fmt: skip
    kept = {name: figure.value for name, figure in stream_figures(a("10 0 0", "10 10 0", "10 10 10"), 3).items()}
    assert kept == {"asr": 1.0, "bwt": 0.0, "nbt": 0.0, "f": 0.0, "auc": 1.0}


def test_auc_with_learning_curves_is_liberos_with_the_curve_frozen_at_its_peak() -> None:
    curves = [[(0, 10), (6, 10), (9, 10), (3, 10)], [(0, 10), (8, 10)], [(10, 10)]]
    # Task 1 is counted as 0, 0.6, 0.9, 0.9 and task 2 as 0, 0.8.
    expected = ((0.6 + 0.5 + 0.6) / 3 + (0.4 + 0.4) / 2 + 1.0) / 3
    figures = stream_figures(THREE, 3, curves)
    assert figures["auc"].value == pytest.approx(expected)
    assert {name: figure for name, figure in figures.items() if name != "auc"} == {
        name: figure for name, figure in stream_figures(THREE, 3).items() if name != "auc"
    }
    with pytest.raises(ValueError, match="2 learning curves for 3 tasks"):
        stream_figures(THREE, 3, curves[:2])


def by_brute_force(matrix: np.ndarray, curves: np.ndarray) -> dict[str, float]:
    """As the papers' own programs loop: BWT and F of a continual-learning benchmark, NBT and AUC of LIBERO's notebook.

    Args:
        matrix: success [stage, task]. curves: success [task, evaluation], not frozen yet.
    """
    tasks = len(matrix)
    frozen = curves.copy()
    for curve in frozen:
        curve[curve.argmax() :] = curve.max()
    nbt = auc = 0.0
    for k in range(tasks):
        drop, area = 0.0, 0.0
        for tau in range(k + 1, tasks):
            drop += matrix[k, k] - matrix[tau, k]
            area += matrix[tau, k]
        if k + 1 < tasks:
            drop /= tasks - k - 1
        nbt += drop
        auc += (area + frozen[k].mean()) / (tasks - k)
    peaks = [max(matrix[stage][i] for stage in range(i, tasks - 1)) for i in range(tasks - 1)]
    return {
        "asr": matrix[-1].mean(),
        "bwt": sum(matrix[-1][i] - matrix[i][i] for i in range(tasks - 1)) / (tasks - 1),
        "nbt": nbt / tasks,
        "f": sum(peak - matrix[-1][i] for i, peak in enumerate(peaks)) / (tasks - 1),
        "auc": auc / tasks,
    }


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
def test_the_figures_equal_brute_force_on_random_matrices(tasks: int) -> None:
    draw = np.random.default_rng(tasks)
    for _ in range(20):
        episodes = draw.integers(1, 60, (tasks, tasks))
        successes = draw.integers(0, episodes + 1)
        curves = draw.integers(0, 21, (tasks, 6))
        matrix = {(s, i): (int(successes[s, i]), int(episodes[s, i])) for s in range(tasks) for i in range(tasks)}
        rates = successes / episodes
        with_curves = stream_figures(matrix, tasks, [[(int(c), 20) for c in curve] for curve in curves])
        expected = by_brute_force(rates, curves / 20)
        assert {name: figure.value for name, figure in with_curves.items()} == pytest.approx(expected)
        at_the_end = by_brute_force(rates, rates.diagonal()[:, None])
        assert stream_figures(matrix, tasks)["auc"].value == pytest.approx(at_the_end["auc"])


def test_a_partial_matrix_gives_what_can_be_computed_and_names_the_cells_that_are_missing() -> None:
    last_only = stream_figures(a("- - -", "- - -", "6 4 10"), 3)
    assert last_only["asr"].value == pytest.approx(2 / 3)
    assert last_only["bwt"] == Figure(None, None, ((0, 0), (1, 1)))
    assert last_only["f"] == Figure(None, None, ((0, 0), (1, 0), (1, 1)))
    under_way = stream_figures(a("9 1 0", "5 8 2"), 3)
    assert under_way["asr"].missing == ((2, 0), (2, 1), (2, 2))
    corners = stream_figures(a("9 - -", "- 8 -", "6 4 10"), 3)
    assert corners["bwt"].value == pytest.approx(-0.35)
    assert corners["nbt"].missing == corners["f"].missing == corners["auc"].missing == ((1, 0),)
    empty_cell = stream_figures({**THREE, (1, 0): (0, 0)}, 3)
    assert empty_cell["nbt"].missing == ((1, 0),)


def test_a_stream_of_one_task_can_forget_nothing() -> None:
    figures = stream_figures(a("7"), 1)
    assert figures["asr"].value == figures["auc"].value == 0.7
    assert figures["bwt"] == figures["nbt"] == figures["f"] == Figure(None, None)
    with pytest.raises(ValueError, match="0 tasks"):
        stream_figures({}, 0)


def test_the_interval_of_one_rate_is_wilsons_and_of_rates_of_equal_weight_that_of_all_their_episodes() -> None:
    assert weighted_sum([(Fraction(1), (8, 10))]) == pytest.approx(wilson(8, 10))
    thirds = [(Fraction(1, 3), (successes, 10)) for successes in (6, 4, 10)]
    assert weighted_sum(thirds) == pytest.approx(wilson(20, 30))
    assert stream_figures(THREE, 3)["asr"].ci95 == pytest.approx(wilson(20, 30)[1:])


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(first: Count, second: Count, low: float, high: float) -> None:
    value, found_low, found_high = weighted_sum([(Fraction(1), first), (Fraction(-1), second)])
    assert value == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert (found_low, found_high) == pytest.approx((low, high), abs=5e-5)
    swapped = weighted_sum([(Fraction(-1), first), (Fraction(1), second)])
    assert swapped == pytest.approx((-value, -found_high, -found_low))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    draw = np.random.default_rng(0)
    truth = draw.uniform(0.5, 1.0, (5, 5))
    exact = by_brute_force(truth, truth.diagonal()[:, None])
    covered = dict.fromkeys(exact, 0)
    for _ in range(200):
        counts = draw.binomial(20, truth)
        figures = stream_figures({(s, i): (int(counts[s, i]), 20) for s in range(5) for i in range(5)}, 5)
        for name, figure in figures.items():
            assert figure.ci95 is not None
            covered[name] += figure.ci95[0] <= exact[name] <= figure.ci95[1]
    assert all(count >= 180 for count in covered.values()), covered
