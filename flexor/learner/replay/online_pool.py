"""OnlinePool: the robot's own episodes that can be learned from, each with the weight it is drawn by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flexor.learner.replay.settings import ReplaySettings
from flexor.runtime.episodes.index_row import EpisodeRow


@dataclass(frozen=True, slots=True)
class OnlinePool:
    """Episodes by task.

    Attributes:
        weights: of each episode by its id, in the order of the ids; above 0.
    """

    weights: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, rows: Sequence[EpisodeRow], settings: ReplaySettings) -> OnlinePool:
        """From all rows of an index, in the order of their beginning.

        weight = ((floor + priority) * 0.5 ** (age / half_life) * used_factor ** learners) ** exponent, where age is how
        many episodes began later and learners how many are done with it. Age is counted in episodes, not in hours: a
        robot that was off over night has nothing newer to learn from. An episode is left out when it teaches nothing:
        nobody intervened, and it is neither a success nor a failure in which somebody advised, or of those that
        `successes` and `failures` let in.
        """
        pools: dict[str, dict[str, float]] = {}
        for age, row in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
            if _teaches(row, settings):
                decay = 0.5 ** (age / settings.half_life)
                weight = (settings.floor + row.priority) * decay * settings.used_factor ** len(row.used_by)
                # Never 0, however old: 1e-300 is above the smallest number that a float has.
                pools.setdefault(row.task, {})[row.id] = max(weight**settings.exponent, 1e-300)
        return cls({task: dict(sorted(pool.items())) for task, pool in pools.items()})

    def draw(self, task: str, rng: np.random.Generator) -> tuple[str, float]:
        """An episode of a task, and the probability that it was this one."""
        ids, weights = list(self.weights[task]), np.array(list(self.weights[task].values()))
        shares = weights / weights.sum()
        chosen = int(rng.choice(len(ids), p=shares))
        return ids[chosen], float(shares[chosen])


def _teaches(row: EpisodeRow, settings: ReplaySettings) -> bool:
    alone = {"success": settings.successes, "failure": settings.failures}
    return row.interventions > 0 or (row.outcome in alone and (alone[row.outcome] or row.advised > 0))
