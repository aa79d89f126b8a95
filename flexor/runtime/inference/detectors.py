"""Detectors: from the scores of an episode so far to one number that grows with suspicion. numpy only.

An alarm is the first moment at which that number is above a threshold; a false alarm is one in a good episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.conformal import CalibrationError

WINDOW = 4  # chunks; one second at 20 Hz and a new chunk every 5 steps
SLACK = 0.25  # k of the CUSUM, in standard deviations (arXiv 2607.27933)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a score comes to in the chunks of good episodes: mean and standard deviation."""

    mean: float
    sigma: float

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Reference:
        """Of all chunks of the good calibration episodes, float [n].

        Raises:
            CalibrationError: fewer than two values, or all the same.
        """
        sigma = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        if not sigma > 0.0:
            raise CalibrationError(
                f"{len(values)} scores of good episodes have no spread, so nothing can be told from them; record more"
            )
        return cls(float(np.mean(values)), sigma)


def latest(values: NDArray[np.floating], reference: Reference) -> NDArray[np.floating]:
    """Every score by itself, so that the first chunk above the threshold is the alarm."""
    return values


def window_mean(values: NDArray[np.floating], reference: Reference) -> NDArray[np.floating]:
    """Mean of the last WINDOW scores, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - WINDOW, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def mean_so_far(values: NDArray[np.floating], reference: Reference) -> NDArray[np.floating]:
    """Mean of all scores since the episode began."""
    return np.cumsum(values) / np.arange(1, len(values) + 1)


def cusum(values: NDArray[np.floating], reference: Reference) -> NDArray[np.floating]:
    """S_t = max(0, S_{t-1} + (s_t - mean) / sigma - SLACK): what has added up above the ordinary (Page, 1954)."""
    excess = np.cumsum((values - reference.mean) / reference.sigma - SLACK)
    return excess - np.minimum(np.minimum.accumulate(excess), 0.0)


DETECTORS: Mapping[str, Callable[[NDArray[np.floating], Reference], NDArray[np.floating]]] = {
    "latest": latest,
    "window mean": window_mean,
    "mean so far": mean_so_far,
    "cusum": cusum,
}
"""By name; each takes the scores float [C] of one episode in order, and returns as many numbers."""

NEED_REFERENCE = frozenset({"cusum"})
"""Those for which the reference matters."""
