"""SampleMix: new samples in epochs, and a fixed share of the base's own demonstrations against forgetting.

Experience replay as it was measured for VLAs: arXiv 2603.03818. For data that is complete; where episodes come while it
is learned, see flexor.learner.lora.replay_mix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flexor.learner.lora.mix import Mix

ORDER = 0  # its stream of random numbers


class SampleMix(Mix):
    """Draws sample numbers of a pool of new samples, and of one to replay.

    Args:
        new, replayed: numbers of the training samples of each; none to replay means no replay.
        share: of replayed samples.
        seed: of the order of new samples.
    """

    def __init__(self, new: NDArray[np.int64], replayed: NDArray[np.int64] | None, share: float, seed: int) -> None:
        self._new, self._replayed, self._share, self._seed = new, replayed, share, seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, new)

    def draw(self, first: int, count: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """New samples, and replayed ones: together the `count` samples from number `first` of the run on.

        New samples come in shuffled epochs; one whose place a replayed one takes, by `rng`, waits for the next epoch.
        """
        if self._replayed is None:
            return [self._epochs(first, count)]
        again = int((rng.random(count) < self._share).sum())
        return [self._epochs(first, count - again), rng.choice(self._replayed, again)]

    def _epochs(self, first: int, count: int) -> NDArray[np.int64]:
        parts: list[NDArray[np.int64]] = [self._new[:0]]
        while count > 0:
            epoch, offset = divmod(first, len(self._new))
            if self._order[0] != epoch:
                rng = np.random.default_rng([self._seed, ORDER, epoch])
                self._order = (epoch, rng.permutation(self._new))
            parts.append(self._order[1][offset : offset + count])
            first += len(parts[-1])
            count -= len(parts[-1])
        return np.concatenate(parts)
