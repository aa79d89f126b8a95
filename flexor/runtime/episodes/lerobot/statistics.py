"""Statistics of a LeRobotDataset's features, as its stats.json has them: exact ones, over every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = 256  # of a colour channel

Statistics = dict[str, Any]
"""min, max, mean, std, count and the quantiles of one feature, each a list as JSON has it."""


def of_numbers(values: NDArray[Any]) -> Statistics:
    """Of each of n dimensions over the rows of `values` [T, n] or [T]; what is not finite does not count.

    Quantiles are those of numpy's linear interpolation; `std` is that of the whole population. A dimension without a
    finite value has 0 everywhere; `count` [1] is the number of rows that count in the dimension with the fewest.
    """
    rows = values.reshape(len(values), -1).astype(np.float64)
    finite = [column[np.isfinite(column)] for column in rows.T]
    told: Statistics = {
        name: [_or_zero(of, column) for column in finite]
        for name, of in (("min", np.min), ("max", np.max), ("mean", np.mean), ("std", np.std))
    }
    told["count"] = [min(len(column) for column in finite)]
    quantiles = [np.quantile(column, list(QUANTILES.values())) if len(column) else np.zeros(5) for column in finite]
    for number, name in enumerate(QUANTILES):
        told[name] = [float(found[number]) for found in quantiles]
    return told


class PixelCounts:
    """How often each level of each colour channel was shown, from which all statistics of a camera follow exactly."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, LEVELS), np.int64)
        self._frames = 0

    def add(self, frame: NDArray[np.uint8], times: int) -> None:
        """Count a frame, uint8 [height, width, 3], that is shown in `times` rows."""
        for channel in range(3):
            self._counts[channel] += times * np.bincount(frame[..., channel].ravel(), minlength=LEVELS)
        self._frames += times

    def merge(self, other: PixelCounts) -> None:
        """Count all of the other's frames, too."""
        self._counts += other._counts
        self._frames += other._frames

    def statistics(self) -> Statistics:
        """Of levels in [0, 1] over all pixels, [3][1][1] as lerobot wants images'; `count` [1] in frames."""
        levels = np.arange(LEVELS) / (LEVELS - 1)
        told: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", *QUANTILES)}
        for counts in self._counts:
            seen, total = np.flatnonzero(counts), int(counts.sum())
            mean = float(levels @ counts / max(total, 1))
            told["min"].append(float(levels[seen[0]]) if total else 0.0)
            told["max"].append(float(levels[seen[-1]]) if total else 0.0)
            told["mean"].append(mean)
            told["std"].append(float(np.sqrt((levels - mean) ** 2 @ counts / max(total, 1))))
            upto = np.cumsum(counts)
            for name, share in QUANTILES.items():
                told[name].append(float(levels[_level_at(upto, share * (total - 1))]) if total else 0.0)
        return {name: [[[value]] for value in values] for name, values in told.items()} | {"count": [self._frames]}


def of_tables(tables: Sequence[Mapping[str, NDArray[Any] | list[str]]]) -> dict[str, Statistics]:
    """Of every column of numbers over the rows of all tables together."""
    names = [name for name, values in tables[0].items() if isinstance(values, np.ndarray)]
    return {name: of_numbers(np.concatenate([np.asarray(table[name]) for table in tables])) for name in names}


def _or_zero(of: Any, column: NDArray[np.float64]) -> float:
    return float(of(column)) if len(column) else 0.0


def _level_at(upto: NDArray[np.int64], rank: float) -> int:
    """The level of the pixel of that rank (from 0), the lower of two where it lies between them."""
    return int(np.searchsorted(upto, np.floor(rank), side="right"))
