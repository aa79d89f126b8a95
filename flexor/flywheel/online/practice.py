"""practised_task: of which task a collected episode is: in turn, or one that the policy fails at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from flexor.flywheel.cycles import judged
from flexor.runtime.episodes.index_row import EpisodeRow


def practised_task(tasks: Sequence[str], rows: Iterable[EpisodeRow], seed: int, share: float) -> str:
    """The task of one episode: a function of the seed and of what was played before.

    Of all seeds `share` practise: a task is drawn in proportion to how often the policy is expected to fail at it,
    (f + 1) / (n + 2) after f of n episodes in which it did not succeed alone (Laplace). The others take the tasks in
    turn, so that what went well before is seen to go on well.

    Args:
        tasks: that may be asked for.
        rows: of the policy that plays; those of other tasks, and those that nobody judged, say nothing.
        share: of the episodes, 0 to 1.
    """
    rng = np.random.default_rng([seed])
    if rng.random() >= share:
        return tasks[seed % len(tasks)]
    played, failed = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0)
    for row in rows:
        succeeded = judged(row)
        if row.task in played and succeeded is not None:
            played[row.task] += 1
            failed[row.task] += not succeeded
    needs = np.array([(failed[task] + 1) / (played[task] + 2) for task in tasks])
    return tasks[int(rng.choice(len(tasks), p=needs / needs.sum()))]
