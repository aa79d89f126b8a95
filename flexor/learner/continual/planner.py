"""Planner: when an adapter is due, and which episodes it is learned from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.learner.continual.learner_state import LearnerState, Plan
from flexor.learner.continual.settings import ContinualSettings
from flexor.learner.demonstrations import DemonstrationError
from flexor.learner.lora.episode_set import EpisodeSet, is_held_out
from flexor.learner.lora.recording_form import RecordingForm
from flexor.learner.lora.sample_store import SampleStore
from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.reservoir import Reservoir
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.bundle import Bundle

Note = Callable[..., None]


class PlanOutdated(FlexorError):
    """The episodes of a plan are not what they were: corrected, evicted or damaged."""


@dataclass(frozen=True, slots=True)
class Due:
    """Why an adapter is due: the setting that says so, episodes that teach, and those that came since the last one."""

    reason: str
    teaching: int
    new: int


class Planner:
    """Args:
    bundle: whose policy is taught.
    root: folder that the robot logs to.
    reservoir: demonstrations to replay; None for none.
    settings: how.
    store: where samples are kept.
    note: hears what was decided: an event and its numbers.
    """

    def __init__(
        self,
        bundle: Bundle,
        root: Path,
        reservoir: Reservoir | None,
        settings: ContinualSettings,
        store: SampleStore,
        note: Note,
    ) -> None:
        self._form, self._root, self._reservoir = RecordingForm(bundle), root, reservoir
        self._settings, self._store, self._note = settings, store, note
        self._unusable: set[str] = set()

    def due(self, rows: Sequence[EpisodeRow], state: LearnerState, minutes: float) -> Due | None:
        """Whether the next adapter is to be learned now.

        Args:
            rows: of the index.
            state: of the learner.
            minutes: since the last one was begun, or since the start.
        """
        publish = self._settings.publish
        teaching = {one for pool in self._weights(rows).values() for one in pool}
        new = len(teaching - set(state.known))
        if self._trainable(teaching) < publish.min_episodes:
            return None
        if publish.every_steps is not None:
            return Due("publish.every_steps", len(teaching), new)
        if publish.every_episodes is not None and new >= publish.every_episodes:
            return Due("publish.every_episodes", len(teaching), new)
        if publish.every_minutes is not None and new > 0 and minutes >= publish.every_minutes:
            return Due("publish.every_minutes", len(teaching), new)
        return None

    def plan(self, rows: Sequence[EpisodeRow], parent: str, on_episode: Callable[[int, int], None]) -> Plan | None:
        """Read what was not read yet and settle what is learned from; None when too much of it cannot be used.

        What turns out to be of no use here is none of those that `due` counts from then on.

        Raises:
            DemonstrationError: none of what is to be replayed can be used.
            OSError: the disk refuses.
        """
        teaching = [one for pool in self._weights(rows).values() for one in pool]
        self._take(self._root, teaching, on_episode)
        weights = self._weights(rows)  # without those that turned out to be of no use
        own = {one for pool in weights.values() for one in pool}
        if self._trainable(own) < self._settings.publish.min_episodes:
            return None
        share, replayed = self._settings.held_out, self._replayed(on_episode)
        held_out = sorted(one for one in own if is_held_out(one, share))
        kept = {task: {one: w for one, w in pool.items() if one not in held_out} for task, pool in weights.items()}
        back = {task: tuple(one for one in ids if not is_held_out(one, share)) for task, ids in replayed.items()}
        replay_held_out = sorted(one for ids in replayed.values() for one in ids if is_held_out(one, share))
        made = Plan(
            parent=parent,
            online={task: pool for task, pool in kept.items() if pool},
            replayed={task: ids for task, ids in back.items() if ids},
            held_out=tuple(held_out),
            replay_held_out=tuple(replay_held_out),
            digest="",
        )
        try:
            self._store.keep(self._digests(made))
            return made.model_copy(update={"digest": self._digest(made)})
        except FileNotFoundError:
            return None  # evicted this moment: the next look at the index knows

    def open(self, plan: Plan) -> list[EpisodeSet]:
        """The episodes of a plan: the robot's own, and what is replayed, if anything is.

        Raises:
            PlanOutdated: they are others than when it was made.
            FlexorError: sentences that do not read: another plan would have the same.
        """
        try:
            if self._digest(plan) != plan.digest:
                raise PlanOutdated("episodes were corrected, or written again")
            sets = []
            for root, ids in self._sources(plan):
                for one in ids:
                    self._store.take(root, one)
                if ids:
                    sets.append(self._store.gather(root, ids))
        except FileNotFoundError as error:
            raise PlanOutdated(f"{error.filename} is gone") from error
        except (DemonstrationError, EpisodeError) as error:
            raise PlanOutdated(str(error)) from error
        return sets

    def _weights(self, rows: Sequence[EpisodeRow]) -> dict[str, dict[str, float]]:
        """Of the episodes that teach and can be used, by task."""
        hz = {row.id: row.hz for row in rows}
        weights: dict[str, dict[str, float]] = {}
        for task, pool in OnlinePool.of(rows, self._settings.replay).weights.items():
            for one, weight in pool.items():
                if one in self._unusable:
                    continue
                try:
                    self._form.check_rate("it", hz[one])
                except DemonstrationError as error:
                    self._skip(one, str(error))
                else:
                    weights.setdefault(task, {})[one] = weight
        return weights

    def _replayed(self, on_episode: Callable[[int, int], None]) -> dict[str, list[str]]:
        if self._reservoir is None:
            return {}
        root, by_task = self._reservoir.root, self._reservoir.episodes
        chosen = [one for ids in by_task.values() for one in ids]
        self._take(root, [one for one in chosen if one not in self._unusable], on_episode)
        usable = {task: [one for one in ids if one not in self._unusable] for task, ids in by_task.items()}
        if not any(usable.values()):
            raise DemonstrationError(
                f"of the {len(chosen)} demonstrations that were chosen from {root} to be replayed none can be learned"
                " from, for what was told of each; give the --replay folder that the bundle was trained on, or none"
            )
        return usable

    def _take(self, root: Path, episodes: Sequence[str], on_episode: Callable[[int, int], None]) -> None:
        for number, one in enumerate(episodes):
            on_episode(number + 1, len(episodes))
            try:
                self._store.take(root, one)
            except FileNotFoundError as error:
                self._skip(one, f"{error.filename} is gone")
            except FlexorError as error:
                self._skip(one, str(error))

    def _skip(self, episode: str, told: str) -> None:
        self._unusable.add(episode)
        self._note("episode.skipped", episode=episode, told=told)

    def _trainable(self, episodes: Iterable[str]) -> int:
        return sum(not is_held_out(one, self._settings.held_out) for one in episodes)

    def _sources(self, plan: Plan) -> list[tuple[Path, list[str]]]:
        base = [] if self._reservoir is None else [(self._reservoir.root, plan.base)]
        return [(self._root, plan.own), *base]

    def _digests(self, plan: Plan) -> list[str]:
        return [self._store.digest(root, one) for root, ids in self._sources(plan) for one in ids]

    def _digest(self, plan: Plan) -> str:
        told: list[Any] = self._digests(plan)
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
