"""Between robot units and the range the model was trained in. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mode = Literal["quantile", "mean_std", "min_max"]
PAIRS: Mapping[Mode, tuple[str, str]] = {
    "mean_std": ("mean", "std"),
    "quantile": ("q01", "q99"),
    "min_max": ("min", "max"),
}
"""The two statistics that each mode reads."""

OPENPI_EPSILON = 1e-6
"""openpi's: keeps a constant channel from dividing by zero, and is part of the inverse too."""


def _unmeasured() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class NormStats:
    """Statistics of one quantity, float64 [D] each, in robot units.

    They come in the pairs of PAIRS. A pair that was not measured is empty, [0]; at least one was.

    Raises:
        ValueError: half a pair, none at all, differing lengths, a number that is not finite, a negative std, or an
            upper bound below its lower one.
    """

    mean: NDArray[np.float64] = field(default_factory=_unmeasured)
    std: NDArray[np.float64] = field(default_factory=_unmeasured)
    q01: NDArray[np.float64] = field(default_factory=_unmeasured)
    q99: NDArray[np.float64] = field(default_factory=_unmeasured)
    min: NDArray[np.float64] = field(default_factory=_unmeasured)
    max: NDArray[np.float64] = field(default_factory=_unmeasured)

    def __post_init__(self) -> None:
        dim = 0
        for first, second in PAIRS.values():
            for name, other in ((first, second), (second, first)):
                value = np.asarray(getattr(self, name), dtype=np.float64)
                dim = dim or value.size
                if value.size == 0 and np.size(getattr(self, other)):
                    raise ValueError(f"norm stats: key {name!r} is missing beside {other!r}; they are used together")
                if value.ndim != 1 or value.size not in (0, dim):
                    raise ValueError(f"{name} has shape {list(value.shape)}; expected {[dim]}, one row")
                if not np.isfinite(value).all():
                    raise ValueError(f"{name}[{int(np.argmin(np.isfinite(value)))}] is not a finite number")
                object.__setattr__(self, name, value)
        if not dim:
            raise ValueError("norm stats are empty; expected at least mean and std, q01 and q99, or min and max")
        if (self.std < 0).any():
            raise ValueError(f"std[{int(np.argmax(self.std < 0))}] is negative")
        for low, high in (PAIRS["quantile"], PAIRS["min_max"]):
            if (below := getattr(self, high) < getattr(self, low)).any():
                raise ValueError(f"{high}[{int(np.argmax(below))}] lies below {low}")

    @property
    def dim(self) -> int:
        """D."""
        return next(size for size in (self.mean.size, self.q01.size, self.min.size) if size)

    def first(self, dim: int) -> NormStats:
        """The statistics of the first `dim` channels."""
        return NormStats(**{name: getattr(self, name)[:dim] for name in _names(self)})

    @classmethod
    def measure(cls, values: NDArray[np.floating], floor: ArrayLike | None = None) -> NormStats:
        """Statistics of samples, [n, D].

        Args:
            values: n samples of D channels, robot units.
            floor: smallest q99 - q01 a channel may have (a number or [D]); a narrower one is widened about its middle,
                so that the noise of a nearly constant channel is not blown up to the full range.

        Raises:
            ValueError: no samples, or not two-dimensional.
        """
        if values.ndim != 2 or len(values) == 0:
            raise ValueError(f"samples have shape {list(values.shape)}; expected [n, D] with n of at least 1")
        samples = values.astype(np.float64)
        q01, q99 = np.quantile(samples, 0.01, axis=0), np.quantile(samples, 0.99, axis=0)
        if floor is not None:
            lacking = np.maximum(np.asarray(floor, dtype=np.float64) - (q99 - q01), 0.0)
            q01, q99 = q01 - lacking / 2, q99 + lacking / 2
        return cls(mean=samples.mean(axis=0), std=samples.std(axis=0), q01=q01, q99=q99)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, ready for JSON, under openpi's keys mean, std, q01, q99, and min, max, where measured."""
        return {name: getattr(self, name).tolist() for name in _names(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NormStats:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: an unknown or missing key, named.
        """
        known = [name for pair in PAIRS.values() for name in pair]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"norm stats: key {unknown[0]!r} is unknown; expected of {', '.join(known)}")
        for pair in PAIRS.values():
            if missing := [name for name in pair if name not in values and set(pair) & set(values)]:
                raise ValueError(f"norm stats: key {missing[0]!r} is missing; expected {' and '.join(pair)} together")
        return cls(**{name: np.asarray(value, dtype=np.float64) for name, value in values.items()})


def _names(stats: NormStats) -> list[str]:
    return [name for pair in PAIRS.values() for name in pair if getattr(stats, name).size]


class Normalizer:
    """Maps robot units to the model's range and back, without clipping, by openpi's formulas.

    quantile: (x - q01) / (q99 - q01 + epsilon) * 2 - 1, min_max the same between min and max; mean_std:
    (x - mean) / (std + epsilon). `unnormalize` is the exact inverse. Channels beyond the D of the statistics (padding
    of an action to the model's width) pass through.

    Args:
        mode: key of PAIRS.
        stats: must hold the mode's pair.
        epsilon: what is added to every span.

    Raises:
        ValueError: an unknown mode, statistics without its pair, or an array with fewer than D channels.
    """

    def __init__(self, mode: Mode, stats: NormStats, epsilon: float = OPENPI_EPSILON) -> None:
        if mode not in PAIRS:
            raise ValueError(f"normalisation mode {mode!r} is unknown; expected one of {', '.join(get_args(Mode))}")
        first, second = (getattr(stats, name) for name in PAIRS[mode])
        if not first.size:
            raise ValueError(f"normalisation mode {mode!r} needs {' and '.join(PAIRS[mode])}, which were not measured")
        if mode == "mean_std":
            self._span = second + epsilon
            self._middle = first
        else:
            self._span = (second - first + epsilon) / 2
            self._middle = first + self._span
        self.mode: Mode = mode
        self.stats = stats
        self.dim = stats.dim

    def normalize(self, values: ArrayLike) -> NDArray[np.float32]:
        """Robot units [..., D or more] -> the model's range, float32."""
        array = self._checked(values)
        array[..., : self.dim] = (array[..., : self.dim] - self._middle) / self._span
        return array.astype(np.float32)

    def unnormalize(self, values: ArrayLike) -> NDArray[np.float32]:
        """The model's range [..., D or more] -> robot units, float32."""
        array = self._checked(values)
        array[..., : self.dim] = array[..., : self.dim] * self._span + self._middle
        return array.astype(np.float32)

    def _checked(self, values: ArrayLike) -> NDArray[np.float64]:
        array = np.array(values, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] < self.dim:
            raise ValueError(f"array has shape {list(array.shape)}; expected [..., {self.dim}], as the norm stats have")
        return array
