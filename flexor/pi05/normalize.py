"""Between robot units and the range the model was trained in. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mode = Literal["quantile", "mean_std"]
# openpi's: keeps a constant channel from dividing by zero, and is part of the inverse too.
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class NormStats:
    """Statistics of one quantity, float64 [D] each, in robot units.

    Raises:
        ValueError: differing lengths, a number that is not finite, a negative std, or q99 below q01.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    q01: NDArray[np.float64]
    q99: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("mean", "std", "q01", "q99"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if value.ndim != 1 or value.shape != np.shape(self.mean):
                raise ValueError(f"{name} has shape {list(value.shape)}; expected {list(np.shape(self.mean))}, one row")
            if not np.isfinite(value).all():
                raise ValueError(f"{name}[{int(np.argmin(np.isfinite(value)))}] is not a finite number")
            object.__setattr__(self, name, value)
        if (self.std < 0).any():
            raise ValueError(f"std[{int(np.argmax(self.std < 0))}] is negative")
        if (self.q99 < self.q01).any():
            raise ValueError(f"q99[{int(np.argmax(self.q99 < self.q01))}] lies below q01")

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
        """Plain lists, ready for JSON, under openpi's keys mean, std, q01, q99."""
        return {name: getattr(self, name).tolist() for name in ("mean", "std", "q01", "q99")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NormStats:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: an unknown or missing key, named.
        """
        names = {"mean", "std", "q01", "q99"}
        if wrong := sorted(names ^ set(values)):
            state = "missing" if wrong[0] in names else "unknown"
            raise ValueError(f"norm stats: key {wrong[0]!r} is {state}; expected mean, std, q01, q99")
        return cls(**{name: np.asarray(values[name], dtype=np.float64) for name in names})


class Normalizer:
    """Maps robot units to the model's range and back, by openpi's formulas and without clipping.

    quantile: (x - q01) / (q99 - q01 + 1e-6) * 2 - 1; mean_std: (x - mean) / (std + 1e-6). `unnormalize` is the exact
    inverse. Channels beyond the D of the statistics (padding of an action to the model's width) pass through.

    Raises:
        ValueError: an unknown mode, or an array with fewer than D channels.
    """

    def __init__(self, mode: Mode, stats: NormStats) -> None:
        if mode == "quantile":
            self._span = (stats.q99 - stats.q01 + _EPSILON) / 2
            self._middle = stats.q01 + self._span
        elif mode == "mean_std":
            self._span = stats.std + _EPSILON
            self._middle = stats.mean
        else:
            raise ValueError(f"normalisation mode {mode!r} is unknown; expected one of {', '.join(get_args(Mode))}")
        self.mode: Mode = mode
        self.stats = stats
        self.dim = len(stats.mean)

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
