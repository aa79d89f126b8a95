"""ReplaySampler: draws the episodes that are learned from next. What it draws depends on seeds and on nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.online_share import OnlineShare
from flexor.learner.replay.replay_error import ReplayError
from flexor.learner.replay.reservoir import Reservoir
from flexor.learner.replay.settings import ReplaySettings
from flexor.learner.replay.state_file import read_state, write_state
from flexor.runtime.episodes.index import EpisodeIndex

VERSION = 1


@dataclass(frozen=True, slots=True)
class Draw:
    """One episode to learn from.

    Attributes:
        number: of the draw, from 0.
        task: as in the episode.
        online: whether it is one of the robot's own, not of the reservoir.
        id, path: of the episode.
        probability: that of all of its task and pool it was this one.
    """

    number: int
    task: str
    online: bool
    id: str
    path: Path
    probability: float


class ReplaySampler:
    """Draws by task, pool and priority.

    Each draw takes a task, all alike (SOP: 1 / M); then the robot's own episodes or the reservoir, by the task's online
    share; then one of the robot's own by priority, or one of the reservoir, all alike. A task that only one of them has
    is drawn from that one.

    Draw k is a function of the seed, k, the episodes as `refresh` last found them, and the losses noted before it.
    """

    def __init__(self, root: Path, reservoir: Reservoir | None, settings: ReplaySettings) -> None:
        """
        Args:
            root: folder that the robot logs to.
            reservoir: demonstrations to replay; None for none.

        Raises:
            EpisodeError: the index cannot be read.
        """
        self._root, self._reservoir, self._settings = root, reservoir, settings
        self._shares = OnlineShare(settings.alpha, settings.window, settings.share_low, settings.share_high)
        self._drawn = 0
        self.refresh()

    @classmethod
    def resume(cls, path: Path, root: Path, reservoir: Reservoir | None, settings: ReplaySettings) -> ReplaySampler:
        """Go on from what `save` wrote, with the episodes that were known then; begin anew where there is no file.

        Raises:
            ReplayError: the file does not read, or is of another root, reservoir or settings.
        """
        made = cls(root, reservoir, settings)
        if path.exists():
            state = read_state(path, VERSION)
            if state["identity"] != made._identity():
                raise ReplayError(
                    f"{path} is of {state['identity']}, not of {made._identity()}; go on with those, or delete it to "
                    "begin anew"
                )
            made._drawn = state["drawn"]
            made._pool = OnlinePool(state["weights"])
            made._shares.restore(state["losses"])
        return made

    @property
    def drawn(self) -> int:
        """Draws so far."""
        return self._drawn

    def refresh(self) -> None:
        """Look at the index again: later draws know what was recorded, corrected, learned from or evicted meanwhile.

        Raises:
            EpisodeError: it cannot be read.
        """
        self._pool = OnlinePool.of(EpisodeIndex(self._root).episodes(), self._settings)

    def share(self, task: str) -> float:
        """How often a draw of this task is one of the robot's own episodes."""
        online, replayed = task in self._pool.weights, self._reservoir is not None and task in self._reservoir.episodes
        if online and replayed:
            return self._shares.share(task)
        return 1.0 if online else 0.0

    def draw(self, count: int) -> list[Draw]:
        """The next draws. Raises ReplayError when there is nothing to draw."""
        replayed = {} if self._reservoir is None else self._reservoir.episodes
        tasks = sorted({*self._pool.weights, *replayed})
        if not tasks:
            raise ReplayError(
                f"{self._root} has no episode to learn from: no success, and none in which somebody intervened; record "
                "some with `flexor run`, or give demonstrations to replay"
            )
        drawn = [self._draw(self._drawn + number, tasks) for number in range(count)]
        self._drawn += count
        return drawn

    def note_loss(self, draw: Draw, loss: float) -> None:
        """What a sample of a draw had for a loss. Raises ReplayError when it is not finite."""
        self._shares.note(draw.task, draw.online, loss)

    def save(self, path: Path) -> None:
        """Write where it stands, whole or not at all. Raises ReplayError when the disk refuses."""
        weights = {task: dict(pool) for task, pool in self._pool.weights.items()}
        told = {"identity": self._identity(), "drawn": self._drawn, "weights": weights, "losses": self._shares.state()}
        write_state(path, VERSION, told)

    def _draw(self, number: int, tasks: list[str]) -> Draw:
        rng = np.random.default_rng([self._settings.seed, number])
        task = tasks[int(rng.integers(len(tasks)))]
        online = bool(rng.random() < self.share(task))
        if online or self._reservoir is None:
            chosen, probability = self._pool.draw(task, rng)
            return Draw(number, task, True, chosen, self._root / "episodes" / f"{chosen}.mcap", probability)
        chosen, probability = self._reservoir.draw(task, rng)
        return Draw(number, task, False, chosen, self._reservoir.file(chosen), probability)

    def _identity(self) -> dict[str, object]:
        reservoir = None if self._reservoir is None else self._reservoir.digest
        return {"root": str(self._root), "reservoir": reservoir, "settings": self._settings.model_dump(mode="json")}
