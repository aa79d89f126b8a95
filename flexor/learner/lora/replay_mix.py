"""ReplayMix: episodes as a ReplaySampler draws them, and of each any frame alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.learner.lora.episode_set import EpisodeSet
from flexor.learner.lora.mix import Losses, Mix
from flexor.learner.replay.replay_sampler import Draw, ReplaySampler


class ReplayMix(Mix):
    """Draws of a step follow the losses of the steps before it, and of none of its own: so a step that is done again
    after a kill draws what it drew.

    Args:
        sampler: draws episodes.
        sets: where they are: the robot's own, and what is replayed, if anything is.
    """

    def __init__(self, sampler: ReplaySampler, sets: Sequence[EpisodeSet]) -> None:
        self._sampler = sampler
        self._rows = [episodes.rows() for episodes in sets]
        self._drawn: dict[int, list[list[Draw]]] = {}
        self._used: set[str] = set()

    @property
    def used(self) -> list[str]:
        """The robot's own episodes that were learned from."""
        return sorted(self._used)

    def draw(self, first: int, count: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """See Mix."""
        draws = [self._sampler.draw(number) for number in range(first, first + count)]
        parts = [[draw for draw in draws if draw.online == (pool == 0)] for pool in range(len(self._rows))]
        self._drawn[first] = parts
        return [
            np.array([self._frame(rows[draw.id], rng) for draw in part], np.int64)
            for rows, part in zip(self._rows, parts, strict=True)
        ]

    def learned(self, losses: Losses) -> None:
        """See Mix."""
        for first in sorted(losses):
            for part, values in zip(self._drawn[first], losses[first], strict=True):
                for draw, loss in zip(part, values.tolist(), strict=True):
                    self._sampler.note_loss(draw, loss)
                self._used.update(draw.id for draw in part if draw.online)
        self._drawn.clear()

    def told(self) -> dict[str, float]:
        """See Mix."""
        return {"train/online_share": self._sampler.mean_share()}

    def state(self) -> dict[str, Any]:
        """See Mix."""
        return {"losses": self._sampler.state(), "used": self.used}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Mix."""
        self._sampler.restore(state["losses"])
        self._used = set(state["used"])

    def identity(self) -> dict[str, object]:
        """See Mix."""
        return {"episodes": self._sampler.digest}

    @staticmethod
    def _frame(rows: NDArray[np.int64], rng: np.random.Generator) -> int:
        return int(rows[rng.integers(len(rows))])
