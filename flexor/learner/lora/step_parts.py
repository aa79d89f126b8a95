"""Step parts: what one step learns of each pool, drawn in order, and learned side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.learner.lora.sample_pool import SamplePool

Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Part:
    """Samples of one pool.

    Attributes:
        pool: its number.
        rows: int64 [n], which samples; encodings: in which of its encodings each one.
        generator: where times, noise and delays come from.
        actions, committed, reach: as SamplePool.chunks gives them.
    """

    pool: int
    rows: NDArray[np.int64]
    encodings: list[int]
    generator: torch.Generator
    actions: Tensor
    committed: Tensor
    reach: Tensor


def draw_parts(
    pools: Sequence[SamplePool], rows: Sequence[NDArray[np.int64]], encodings: int, rng: np.random.Generator
) -> list[Part]:
    """What there is to be learned of samples that were drawn: a part of each pool that has any.

    Args:
        rows: of each pool.
        encodings: that a sample has.
        rng: by which all else is drawn.
    """
    parts = []
    for pool, chosen in enumerate(rows):
        if len(chosen):
            seen = rng.integers(0, encodings, len(chosen)).tolist()
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            parts.append(Part(pool, chosen, seen, generator, *pools[pool].chunks(chosen, rng)))
    return parts


class SideBySide:
    """Work that is done by as many threads as there are processors for it, each computing on one.

    Products of small models are too small to be shared among processors: two that compute a part each are nearly twice
    as fast, where two that share every product were no faster than one.

    Args:
        threads: at most at once; alone, work has all of them for its products.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._pool = ThreadPoolExecutor(threads, "flexor-learner", torch.set_num_threads, (1,)) if threads > 1 else None

    def run(self, work: Sequence[Callable[[], Told]]) -> list[Told]:
        """Do all of it; what each piece gave, in their order."""
        if self._pool is None or len(work) < 2:
            return [piece() for piece in work]
        return [done.result() for done in [self._pool.submit(piece) for piece in work]]
