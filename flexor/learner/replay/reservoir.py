"""Reservoir: a fixed choice of the base's own demonstrations, equally many of each task, against forgetting.

Replay of 2 to 20 % of a task's demonstrations keeps what a policy knew, where learning on without any loses most of it
(arXiv 2603.03818).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flexor.learner.replay.replay_error import ReplayError
from flexor.learner.replay.state_file import read_state, write_state
from flexor.runtime.episodes.index import EpisodeIndex

VERSION = 1


@dataclass(frozen=True, slots=True)
class Reservoir:
    """Which demonstrations are replayed.

    Attributes:
        root: folder of episodes that they lie in.
        episodes: their ids by task, sorted.
    """

    root: Path
    episodes: Mapping[str, tuple[str, ...]]

    @classmethod
    def choose(cls, root: Path, per_task: int, seed: int) -> Reservoir:
        """`per_task` successes of each task of a folder in which nobody intervened, or all where there are fewer.

        The same seed chooses the same ones, as long as the folder holds the same.

        Raises:
            ReplayError: the folder has none.
            EpisodeError: its index cannot be read.
        """
        by_task: dict[str, list[str]] = {}
        for row in EpisodeIndex(root).episodes(outcome="success"):
            if row.interventions == 0:
                by_task.setdefault(row.task, []).append(row.id)
        if not by_task:
            raise ReplayError(f"{root} lists no success without an intervention; record some with `flexor collect`")
        chosen = {}
        for number, (task, ids) in enumerate(sorted(by_task.items())):
            rng = np.random.default_rng([seed, number])
            chosen[task] = tuple(sorted(rng.permutation(sorted(ids))[:per_task].tolist()))
        return cls(root, chosen)

    @classmethod
    def load(cls, path: Path) -> Reservoir:
        """Read what `save` wrote; its episodes must be there still.

        Raises:
            ReplayError: the file does not read, or an episode is gone.
        """
        state = read_state(path, VERSION)
        made = cls(Path(state["root"]), {task: tuple(ids) for task, ids in state["episodes"].items()})
        gone = [one for ids in made.episodes.values() for one in ids if not made.file(one).exists()]
        if gone:
            raise ReplayError(
                f"the reservoir {path} names {len(gone)} episodes that {made.root} no longer has, first {gone[0]}; "
                "bring them back, or delete the reservoir to choose anew"
            )
        return made

    def save(self, path: Path) -> None:
        """Write it, whole or not at all. Raises ReplayError when the disk refuses."""
        write_state(path, VERSION, {"root": str(self.root), "episodes": {t: list(i) for t, i in self.episodes.items()}})

    def file(self, episode_id: str) -> Path:
        """Where an episode lies."""
        return self.root / "episodes" / f"{episode_id}.mcap"

    def draw(self, task: str, rng: np.random.Generator) -> tuple[str, float]:
        """An episode of a task, each alike, and the probability that it was this one."""
        ids = self.episodes[task]
        return ids[int(rng.integers(len(ids)))], 1.0 / len(ids)
