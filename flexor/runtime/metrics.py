"""Numbers that success is reported in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

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


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided p-value of McNemar's exact test: two arms played the same episodes; do they succeed equally often?

    Pairs in which both arms did the same say nothing. Were the arms equal, each other pair would go either way with
    probability 1/2: p = min(1, 2 sum_{k <= min(b, c)} C(b + c, k) / 2^(b + c)), Q. McNemar, Psychometrika 12 (1947)
    153, with the binomial distribution instead of its approximation.

    Args:
        first_only: b, pairs in which only the first arm succeeded.
        second_only: c, pairs in which only the second did.

    Returns:
        p in 0..1; 1 when no pair differs.

    Raises:
        ValueError: a negative count.
    """
    if first_only < 0 or second_only < 0:
        raise ValueError(f"{first_only} and {second_only} pairs that differ; expected counts of 0 or more")
    n = first_only + second_only
    tail = sum(math.comb(n, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / 2**n)  # whole numbers up to the division, which Python rounds correctly at any size


def paired_difference(both: int, first_only: int, second_only: int, neither: int) -> tuple[float, float, float]:
    """Difference of two success rates on the same episodes, the second less the first, and its 95 % interval.

    R. G. Newcombe, Statistics in Medicine 17 (1998) 2635, method 10: the Wilson intervals of both rates put together by
    their correlation phi, whose numerator is corrected for continuity where it is positive. With d_i and u_i from rate
    i down to the end of its interval and up to it, low = D - sqrt(u_1^2 - 2 phi u_1 d_2 + d_2^2), high with d_1 and
    u_2. Without correlation it is that of independent rates (`weighted_sum`).

    Args:
        both, first_only, second_only, neither: episodes in which these succeeded; at least one in all.

    Returns:
        (difference, low, high).

    Raises:
        ValueError: counts that cannot be.
    """
    n = both + first_only + second_only + neither
    if n < 1 or min(both, first_only, second_only, neither) < 0:
        raise ValueError(f"{both}, {first_only}, {second_only}, {neither} episodes; expected counts, not all of them 0")
    first, low_1, high_1 = wilson(both + first_only, n)
    second, low_2, high_2 = wilson(both + second_only, n)
    margins = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    product = both * neither - first_only * second_only
    phi = (max(product - n / 2, 0.0) if product > 0 else product) / math.sqrt(margins) if margins else 0.0
    down_1, up_1, down_2, up_2 = first - low_1, high_1 - first, second - low_2, high_2 - second
    difference = (second_only - first_only) / n
    below = math.sqrt(up_1**2 - 2 * phi * up_1 * down_2 + down_2**2)
    above = math.sqrt(down_1**2 - 2 * phi * down_1 * up_2 + up_2**2)
    return difference, difference - below, difference + above


Count = tuple[int, int]
"""Successes and episodes of one proportion."""

Term = tuple[Fraction, Count]
"""A rate and its weight in a sum."""

Cell = tuple[int, int]
"""(l, i), counted from 0: the policy as it was after the l-th task of a stream, on the i-th task of it."""


def weighted_sum(terms: Iterable[Term]) -> tuple[float, float, float]:
    """A weighted sum of success rates and its 95 % interval.

    Rates of the same weight over as many episodes each are one rate of all their episodes. The Wilson intervals
    (l, u) of the rates p are put together by recovered variances, G. Y. Zou and A. Donner, Statistics in Medicine 27
    (2008) 1693: with weights w > 0, low = sum w p - sqrt(sum w^2 (p - l)^2), high = sum w p + sqrt(sum w^2 (u - p)^2);
    a negative weight takes the other end. Of one rate this is Wilson's interval, of a difference of two Newcombe's
    (Statistics in Medicine 17 (1998) 873, method 10).

    The rates count as independent. Where they come from the same episodes with the same seeds, a difference is better
    known than this says.

    Args:
        terms: weight, (successes, episodes) of each rate.

    Returns:
        (sum, low, high).

    Raises:
        ValueError: counts that cannot be.
    """
    groups: dict[tuple[Fraction, int], list[int]] = {}
    for weight, (successes, episodes) in terms:
        groups.setdefault((weight, episodes), []).append(successes)
    total, below, above = Fraction(0), 0.0, 0.0
    for (weight, episodes), successes in groups.items():
        rate, low, high = wilson(sum(successes), episodes * len(successes))
        scale = float(abs(weight) * len(successes))
        total += weight * Fraction(sum(successes), episodes)
        down, up = (rate - low, high - rate) if weight > 0 else (high - rate, rate - low)
        below += (scale * down) ** 2
        above += (scale * up) ** 2
    return float(total), float(total) - math.sqrt(below), float(total) + math.sqrt(above)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a success matrix.

    Attributes:
        value: None when it cannot be computed.
        ci95: (low, high); None with the value.
        missing: the cells that it needs and that are not there; empty and no value: a stream of one task has none.
    """

    value: float | None
    ci95: tuple[float, float] | None
    missing: tuple[Cell, ...] = ()


STREAM_FIGURES = {
    "asr": "average success at the end; 100 % is best",
    "bwt": "backward transfer (Lopez-Paz 2017): below 0 is forgetting",
    "nbt": "negative backward transfer (LIBERO 2023): above 0 is forgetting",
    "f": "forgetting since the best (Chaudhry 2018): above 0 is forgetting",
    "auc": "success while and after learning (LIBERO 2023); 100 % is best",
}
"""What `stream_figures` computes, and which way its sign goes."""


def stream_figures(
    matrix: Mapping[Cell, Count], tasks: int, learning: Sequence[Sequence[Count]] | None = None
) -> dict[str, Figure]:
    """ASR, BWT, NBT, F and AUC of a stream of N tasks. In the formulas a[l, i] is counted from 1 as in the papers.

    ASR = 1/N sum_i a[N, i]
    BWT = 1/(N-1) sum_{i<N} (a[N, i] - a[i, i]), D. Lopez-Paz and M. Ranzato, NeurIPS 2017: < 0 is forgetting.
    NBT = 1/N sum_k NBT_k, NBT_k = 1/(N-k) sum_{l>k} (a[k, k] - a[l, k]), NBT_N = 0, B. Liu et al., LIBERO, NeurIPS
        2023, as its code has it (there it is called "bwt", and the last task counts in the mean): > 0 is forgetting.
    F = 1/(N-1) sum_{i<N} (max_{i<=l<N} a[l, i] - a[N, i]), A. Chaudhry et al., ECCV 2018: > 0 is forgetting. The
        largest of noisy rates is too large on average, and so is F; its interval takes the peak as given.
    AUC = 1/N sum_k 1/(N-k+1) (mean_e c_k(e) + sum_{l>k} a[l, k]), LIBERO: c_k(e) is success on task k at the e-th
        evaluation while it is learned, and stays at its peak once that is reached. Without `learning` the only
        evaluation is the one at the end, a[k, k], which is never below the mean of the curve that leads there.

    Args:
        matrix: counts of the cells that are there; one without an episode is not there.
        tasks: N.
        learning: for each task the counts of evaluations while it was learned, oldest first.

    Returns:
        a Figure for each of STREAM_FIGURES; rates and differences of rates, not percent.

    Raises:
        ValueError: no tasks, counts that cannot be, or learning curves that are not one for each task.
    """
    if tasks < 1:
        raise ValueError(f"a stream of {tasks} tasks; expected at least one")
    if learning is not None and (len(learning) != tasks or not all(learning)):
        raise ValueError(f"{len(learning)} learning curves for {tasks} tasks; expected one with evaluations for each")
    known = {cell: count for cell, count in matrix.items() if count[1]}
    last, each = tasks - 1, Fraction(1, tasks)
    asr = {(last, i): each for i in range(tasks)}
    bwt, nbt, auc = dict[Cell, Fraction](), dict[Cell, Fraction](), dict[Cell, Fraction]()
    for i in range(last):
        bwt[last, i], bwt[i, i] = Fraction(1, last), Fraction(-1, last)
    for k in range(tasks):
        later = range(k + 1, tasks)
        if later:
            nbt[k, k] = each
            nbt.update({(after, k): -each / len(later) for after in later})
        auc.update({(after, k): each / (tasks - k) for after in (k, *later)})
    curves: list[Term] = []
    if learning is not None:
        curves = [term for k in range(tasks) for term in _curve(auc.pop((k, k)), learning[k])]
    return {
        "asr": _figure(asr, known),
        "bwt": _figure(bwt, known),
        "nbt": _figure(nbt, known),
        "f": _forgetting(known, tasks),
        "auc": _figure(auc, known, curves),
    }


def _figure(weights: Mapping[Cell, Fraction], known: Mapping[Cell, Count], more: Sequence[Term] = ()) -> Figure:
    missing = tuple(sorted(cell for cell in weights if cell not in known))
    terms = [*more, *((weight, known[cell]) for cell, weight in weights.items() if cell in known)]
    if missing or not terms:
        return Figure(None, None, missing)
    value, low, high = weighted_sum(terms)
    return Figure(value, (low, high))


def _forgetting(known: Mapping[Cell, Count], tasks: int) -> Figure:
    last = tasks - 1
    before = {i: [(after, i) for after in range(i, last)] for i in range(last)}
    needed = [cell for i in before for cell in (*before[i], (last, i))]
    missing = tuple(sorted(cell for cell in needed if cell not in known))
    if missing:
        return Figure(None, None, missing)
    weights: dict[Cell, Fraction] = {}
    for i, cells in before.items():
        peak = max(cells, key=lambda cell: Fraction(*known[cell]))
        weights[peak], weights[last, i] = Fraction(1, last), Fraction(-1, last)
    return _figure(weights, known)


def _curve(weight: Fraction, evaluations: Sequence[Count]) -> list[Term]:
    """The weight shared out over the evaluations up to the first best one, which stands for all after it, too."""
    best = max(range(len(evaluations)), key=lambda e: Fraction(*evaluations[e]))
    share = weight / len(evaluations)
    return [*((share, count) for count in evaluations[:best]), (share * (len(evaluations) - best), evaluations[best])]
