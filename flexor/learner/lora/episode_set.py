"""EpisodeSet: demonstrations that were read episode by episode, as a robot records them, and know each one's id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.learner.demonstrations import Demonstrations

SHARE_BITS, FRAME_BITS = 32, 20  # of an episode's number that say whether it is held out; of a frame's number in it


@dataclass(frozen=True, slots=True)
class EpisodeSet(Demonstrations):
    """Attributes:
    ids: of the episodes, by their number.
    """

    ids: tuple[str, ...]

    def rows(self) -> dict[str, NDArray[np.int64]]:
        """The samples of each episode."""
        return {one: np.flatnonzero(self.episodes == number) for number, one in enumerate(self.ids)}

    def split(self, held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sample indices to train on and to hold out, which may be none: see `is_held_out`."""
        kept_back = np.array([is_held_out(one, held_out) for one in self.ids])[self.episodes]
        return np.flatnonzero(~kept_back), np.flatnonzero(kept_back)

    def number(self, row: int) -> int:
        """The same for the same frame, whatever other episodes are in the set: what was encoded of it is found again.

        See Demonstrations.
        """
        episode = int(self.episodes[row])
        first = int(np.searchsorted(self.episodes, episode))
        return _digest(self.ids[episode]) << FRAME_BITS | (row - first)


def is_held_out(episode: str, share: float) -> bool:
    """Whether an episode is never learned from: of many, about `share` are. It follows from its id alone."""
    return (_digest(episode) & (1 << SHARE_BITS) - 1) < share * (1 << SHARE_BITS)


def _digest(episode: str) -> int:
    return int.from_bytes(hashlib.sha256(episode.encode()).digest()[:8], "big")
