"""ReplaySampler: draws the episodes that are learned from next. What it draws depends on seeds and on nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.online_share import OnlineShare
from flexor.learner.replay.replay_error import ReplayError
from flexor.learner.replay.reservoir import Reservoir
from flexor.learner.replay.settings import ReplaySettings

EPISODES = 0  # the stream of random numbers that draws episodes


@dataclass(frozen=True, slots=True)
class Draw:
    """One episode to learn from.

    Attributes:
        number: of the draw, from 0.
        task: as in the episode.
        online: whether it is one of the robot's own, not of the reservoir.
        id: of the episode.
        probability: that of all of its task and pool it was this one.
    """

    number: int
    task: str
    online: bool
    id: str
    probability: float


class ReplaySampler:
    """Draws by task, pool and priority.

    Each draw takes a task, by the mean weight of its own episodes (SOP takes all alike; a task that never fails then
    has as much of an adapter as one that always does); then the robot's own episodes or the reservoir, by the task's
    online share; then one of the robot's own by priority, or one of the reservoir, all alike. A task that only one of
    them has is drawn from that one; of those that the robot has not played, as if it had succeeded in them.

    Draw k is a function of the seed, k, the episodes, and the losses noted before it.

    Args:
        online: the robot's own episodes; fixed, a later look at them is another sampler's.
        reservoir: demonstrations to replay; None for none.
        settings: how.

    Raises:
        ReplayError: there is nothing to draw.
    """

    def __init__(self, online: OnlinePool, reservoir: Reservoir | None, settings: ReplaySettings) -> None:
        self._online, self._reservoir, self._settings = online, reservoir, settings
        self._replayed = {} if reservoir is None else reservoir.episodes
        self._tasks = sorted({*online.weights, *self._replayed})
        if not self._tasks:
            raise ReplayError(
                "there is no episode to learn from: no success, and none in which somebody intervened or advised; "
                "record some with `flexor run --log`, or give demonstrations to replay"
            )
        means = {task: float(np.mean(list(pool.values()))) for task, pool in online.weights.items()}
        easy = min([*means.values(), settings.floor**settings.exponent])
        weights = np.array([means.get(task, easy) for task in self._tasks])
        self._chances = weights / weights.sum()
        self._shares = OnlineShare(settings.alpha, settings.window, settings.share_low, settings.share_high)

    def share(self, task: str) -> float:
        """How often a draw of this task is one of the robot's own episodes."""
        if task in self._online.weights and task in self._replayed:
            return self._shares.share(task)
        return 1.0 if task in self._online.weights else 0.0

    def draw(self, number: int) -> Draw:
        """Draw `number`; the same one for as long as no loss is noted."""
        rng = np.random.default_rng([self._settings.seed, EPISODES, number])
        task = self._tasks[int(rng.choice(len(self._tasks), p=self._chances))]
        online = bool(rng.random() < self.share(task))
        if online or self._reservoir is None:
            return Draw(number, task, True, *self._online.draw(task, rng))
        return Draw(number, task, False, *self._reservoir.draw(task, rng))

    def note_loss(self, draw: Draw, loss: float) -> None:
        """What a sample of a draw had for a loss. Raises ReplayError when it is not finite."""
        self._shares.note(draw.task, draw.online, loss)

    def mean_share(self) -> float:
        """The online share over all tasks, as often as they are drawn."""
        return float(self._chances @ [self.share(task) for task in self._tasks])

    def state(self) -> dict[str, Any]:
        """The losses noted so far, as JSON has them."""
        return self._shares.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from an earlier state()."""
        self._shares.restore(state)

    @property
    def digest(self) -> str:
        """Names the episodes, their weights and the settings."""
        weights = {task: dict(pool) for task, pool in self._online.weights.items()}
        replayed = {task: list(ids) for task, ids in self._replayed.items()}
        told = json.dumps([weights, replayed, self._settings.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]
