"""LearnerDaemon: learns one adapter after the other from what a robot records, until it is stopped.

Everything that it decides is in its state file before it is done, so that a killed one goes on where it was: in the
middle of learning from the last checkpoint, after it with the same adapter, and after that with its announcement.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from flexor.errors import FlexorError
from flexor.learner.continual.announcer import Announcer
from flexor.learner.continual.learner_state import LearnerState, Plan
from flexor.learner.continual.planner import Planner, PlanOutdated
from flexor.learner.continual.publication import Publication, read_start
from flexor.learner.continual.settings import ContinualSettings
from flexor.learner.heap import keep_freed_memory
from flexor.learner.lora.learn import work_folder
from flexor.learner.lora.memory_knobs import naming_the_next_knob
from flexor.learner.lora.sample_store import SampleStore
from flexor.learner.lora.trainer import LearningStopped, LoraStanding, never_pause
from flexor.learner.replay.replay_error import ReplayError
from flexor.learner.replay.reservoir import Reservoir
from flexor.learner.work_lock import WorkLock
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_writer import next_version
from flexor.runtime.adapters.audit_log import AuditLog
from flexor.runtime.adapters.manifest import BASE
from flexor.runtime.draft_folder import sweep_drafts
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle

ANNOUNCE_EVERY_S = 10.0
LOOK_EVERY_S = 0.1  # at the wish to stop
RESERVOIR = "reservoir.json"


@dataclass(frozen=True, slots=True)
class DaemonWatcher:
    """Who is told how it goes.

    Attributes:
        on_event: (event, its numbers and words) of everything that was decided.
        on_episode: (episodes read, episodes in all).
        on_step: where learning stands.
    """

    on_event: Callable[[str, dict[str, Any]], None]
    on_episode: Callable[[int, int], None]
    on_step: Callable[[LoraStanding], None]


class LearnerDaemon:
    """Args:
    bundle: whose policy is taught.
    episodes: folder that the robot logs to; it may be empty yet.
    out: the directory of adapters. Work lies in `out`.training.
    settings: how.
    watcher: who is told.
    replay: folder of the base's own demonstrations, against forgetting.
    server: data address of the server that is told of adapters; None tells nobody.
    count: adapters after which it ends; None for no end.
    pause: called before every micro-batch; it may take its time.
    stop: whether to end; asked all the time.
    """

    def __init__(
        self,
        bundle: Bundle,
        episodes: Path,
        out: Path,
        settings: ContinualSettings,
        watcher: DaemonWatcher,
        *,
        replay: Path | None = None,
        server: str | None = None,
        count: int | None = None,
        pause: Callable[[], None] = never_pause,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bundle, self._episodes, self._out, self._settings = bundle, episodes, out, settings
        self._watcher, self._replay, self._slack, self._stop = watcher, replay, pause, stop
        self._announcer, self._count = None if server is None else Announcer(server), count
        self._work = work_folder(out)
        self._log = AuditLog(self._work)
        self._state = LearnerState()
        self._published = 0

    def run(self) -> dict[str, Any]:
        """Learn until stopped, or until there are enough adapters.

        Returns:
            published (by this process), number (of publications in this work folder), adapter (the last one), and
            unannounced (an adapter that the server was not told of, or None).

        Raises:
            FlexorError: another learner has the work folder, no memory is left, the disk refuses, or learning failed.
        """
        with WorkLock(self._work), naming_the_next_knob(self._settings):
            try:
                self._open()
                self._live()
            except (OSError, SafetensorError) as error:  # the latter where frames are kept
                raise FlexorError(f"learning in {self._work}: {error}; free the disk or mend it, then go on") from error
        state = self._state
        told = {"published": self._published, "number": state.number, "adapter": state.current}
        return {**told, "unannounced": state.unannounced}

    def _open(self) -> None:
        keep_freed_memory()
        self._out.mkdir(parents=True, exist_ok=True)
        sweep_drafts(self._out, "*")
        self._state = LearnerState.read(self._work)
        store = SampleStore(self._work / "samples", self._bundle)
        reservoir = None if self._replay is None else self._reservoir(self._replay)
        self._planner = Planner(self._bundle, self._episodes, reservoir, self._settings, store, self._note)
        self._since_s, self._announce_s, self._waited = time.monotonic(), 0.0, ""
        under_way = self._state.number if self._state.plan else None
        replayed = 0 if reservoir is None else sum(map(len, reservoir.episodes.values()))
        self._note("learner.started", resumes=under_way, current=self._state.current, replayed=replayed)

    def _live(self) -> None:
        try:
            while not self._stop():
                self._announce()
                if self._count is not None and self._published >= self._count:
                    break
                if self._state.plan is None:
                    self._plan()
                if self._state.plan is None:
                    self._wait(self._settings.learner.poll_s)
                else:
                    self._publish(self._state.plan)
        except LearningStopped:
            pass
        self._note("learner.stopped", published=self._published, under_way=self._state.plan is not None)

    def _plan(self) -> None:
        """Settle what the next adapter is learned from, if it is due."""
        rows = EpisodeIndex(self._episodes).episodes()
        minutes = (time.monotonic() - self._since_s) / 60
        if self._planner.due(rows, self._state, minutes) is None:
            return
        plan = self._planner.plan(rows, self._parent(), self._watch_episodes)
        due = self._planner.due(rows, self._state, minutes)
        if plan is None or due is None:
            return  # each episode that was skipped has been told, and counts no more
        number, told = self._state.number + 1, {"reason": due.reason, "teaching": due.teaching, "new": due.new}
        self._since_s = time.monotonic()
        self._keep(number=number, plan=plan, known=tuple(plan.own))
        told |= {"parent": plan.parent, "own": len(plan.own), "replayed": len(plan.base)}
        self._note("publication.begun", number=number, **told)

    def _publish(self, plan: Plan) -> None:
        """Learn what was planned, and write it."""
        number = self._state.number
        folder = self._work / f"{number:04d}"
        try:
            sets = self._planner.open(plan)
            start = read_start(self._out, plan.parent, self._bundle, self._settings)
        except (PlanOutdated, AdapterError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._keep(plan=None, known=())
            self._note("publication.abandoned", number=number, told=str(error))
            self._wait(self._settings.learner.poll_s)  # the next plan may go the same way
            return
        publication = Publication(self._bundle, plan, sets, start, self._settings, folder, self._work / "prefixes")
        metrics = publication.learn(self._watcher.on_step, self._pause)
        if plan.version is None:
            made = datetime.now(UTC).isoformat(timespec="seconds")
            plan = plan.model_copy(update={"version": next_version(self._out), "created_at": made})
            self._keep(plan=plan)
        written, used = publication.write(self._out, plan, metrics)
        present = {row.id for row in EpisodeIndex(self._episodes).episodes()}
        EpisodeIndex(self._episodes).mark_used(present.intersection(used), written)
        announced = None if self._announcer is None else written
        self._keep(plan=None, current=written, before=self._state.current, unannounced=announced)
        publication.close()
        self._published, self._announce_s = self._published + 1, 0.0
        self._note("adapter.written", number=number, adapter=written, learned_from=len(used), **metrics)

    def _announce(self) -> None:
        """Tell the server of an adapter that it does not know yet."""
        adapter = self._state.unannounced
        if adapter is None or self._announcer is None or time.monotonic() < self._announce_s:
            return
        answer, told = self._announcer.announce(adapter)
        if answer == "later":
            self._announce_s = time.monotonic() + ANNOUNCE_EVERY_S
            if told != self._waited:
                self._note("adapter.waits", adapter=adapter, told=told)
            self._waited = told
            return
        self._keep(unannounced=None, **({"current": self._state.before} if answer == "refused" else {}))
        self._note(f"adapter.{answer}", adapter=adapter, told=told)

    def _parent(self) -> str:
        """The adapter that the next one begins with."""
        current = self._state.current
        if self._settings.learner.init == "base" or current == BASE:
            return BASE
        parent = current if self._announcer is None else self._announcer.standing(current)
        try:
            read_start(self._out, parent, self._bundle, self._settings)
        except AdapterError as error:
            self._note("parent.unusable", adapter=parent, told=f"{error}; the base instead")
            return BASE
        if parent != current:
            self._note("parent.taken_back", adapter=current, told=f"the server took it back and plays {parent}")
        return parent

    def _reservoir(self, replay: Path) -> Reservoir:
        """Chosen once, and the same ever after."""
        path, settings = self._work / RESERVOIR, self._settings.replay
        if not path.exists():
            Reservoir.choose(replay.absolute(), settings.per_task, settings.seed).save(path)
        found = Reservoir.load(path)
        if found.root != replay.absolute():
            raise ReplayError(f"{path} is of {found.root}, not of {replay.absolute()}; delete it to choose anew")
        return found

    def _pause(self) -> None:
        if self._stop():
            raise LearningStopped
        self._slack()
        if self._stop():
            raise LearningStopped

    def _watch_episodes(self, done: int, total: int) -> None:
        if self._stop():
            raise LearningStopped
        self._watcher.on_episode(done, total)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stop() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_EVERY_S))

    def _keep(self, **changes: Any) -> None:
        changed = self._state.model_copy(update=changes)
        changed.write(self._work)
        self._state = changed

    def _note(self, event: str, **told: Any) -> None:
        self._log.append(event, **told)
        self._watcher.on_event(event, told)
