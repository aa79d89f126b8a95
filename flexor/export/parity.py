"""Parity: how far two ways to compute the same bundle are apart, on recorded observations with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.inference.policy import Policy
from flexor.runtime.observation import Observation


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences of action chunks, in the model's normalised units.

    Attributes:
        n: chunks compared.
        max_abs, mean_abs: of a number.
        cos_mean, cos_min: cosine of a chunk to its twin, on average and the worst one.
        cos_by_dim: cosine of each action dimension over all chunks.
        worst: number of the observation with the worst cosine.
    """

    n: int
    max_abs: float
    mean_abs: float
    cos_mean: float
    cos_min: float
    cos_by_dim: tuple[float, ...]
    worst: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def compare_policies(
    reference: Policy, other: Policy, observations: Sequence[Observation], told: Callable[[int], None]
) -> Parity:
    """Ask both the same; chunk k begins with the noise of seed k.

    Raises:
        FlexorError: nothing to ask, or an observation that does not fit the bundle.
    """
    if not observations:
        raise FlexorError("parity needs at least one observation; record some: flexor collect")
    normalizer = reference.bundle.normalizers()[1]
    pairs = []
    for seed, observation in enumerate(observations):
        chunks = (policy.infer(observation, seed).actions for policy in (reference, other))
        pairs.append(np.stack([normalizer.normalize(actions) for actions in chunks]))
        told(seed + 1)
    return compare_actions(np.stack(pairs).astype(np.float64))


def compare_actions(pairs: NDArray[np.float64]) -> Parity:
    """Of normalised actions [n, 2, H, A]: the reference's first, then the other's."""
    first, second = pairs[:, 0], pairs[:, 1]
    chunks = _cosines(first.reshape(len(first), -1), second.reshape(len(second), -1))
    dims = _cosines(
        np.moveaxis(first, -1, 0).reshape(first.shape[-1], -1), np.moveaxis(second, -1, 0).reshape(first.shape[-1], -1)
    )
    apart = np.abs(first - second)
    return Parity(
        n=len(first),
        max_abs=float(apart.max()),
        mean_abs=float(apart.mean()),
        cos_mean=float(chunks.mean()),
        cos_min=float(chunks.min()),
        cos_by_dim=tuple(dims.tolist()),
        worst=int(chunks.argmin()),
    )


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of rows [n, m]; 1 where both are zero, 0 where one is."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    both_zero = ~first.any(axis=1) & ~second.any(axis=1)
    products = (first * second).sum(axis=1)
    return np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1.0), both_zero.astype(np.float64))
