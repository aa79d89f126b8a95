"""Triggers: all of them at once, looked at after every episode, each decision on disk before it is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from flexor.flywheel.triggers.evidence import Evidence, last_decision
from flexor.flywheel.triggers.failure_run import failure_run
from flexor.flywheel.triggers.period import period
from flexor.flywheel.triggers.settings import TriggerSettings
from flexor.flywheel.triggers.success_rate import success_rate
from flexor.flywheel.triggers.surprise import surprise
from flexor.flywheel.triggers.trigger_event import TriggerEvent
from flexor.flywheel.triggers.trigger_log import TriggerLog
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.calibration import Calibration

LASTING = ("success_rate", "consecutive_failures")
"""The triggers whose reason lasts until it is cleared; the others fire for one episode, or one moment."""


def decide(settings: TriggerSettings, evidence: Evidence) -> list[TriggerEvent]:
    """What follows now; the same for the same evidence. Failures in a row come first: they cannot wait."""
    thresholds = settings.thresholds
    return [
        *failure_run(thresholds.consecutive_failures, evidence),
        *surprise(thresholds.entropy, evidence),
        *success_rate(thresholds.success_rate, evidence),
        *period(settings.publish, evidence),
    ]


class Triggers:
    """The triggers of one flywheel. They keep nothing in memory: a new object goes on where a killed one stopped."""

    def __init__(self, root: Path, settings: TriggerSettings, calibration: Calibration | None = None) -> None:
        """`root`: folder of the log of decisions. `calibration`: of the entropy scores, as the daemon has it."""
        self._log, self._settings, self._calibration = TriggerLog(root), settings, calibration

    def look(
        self,
        rows: Sequence[EpisodeRow],
        now: datetime,
        *,
        bundle: str | None = None,
        adapter: str | None = None,
        steps: int | None = None,
    ) -> list[TriggerEvent]:
        """Decide, write the decisions down, and tell them; call it after every episode.

        Args:
            rows: of the index, in the order in which the episodes began.
            now: with its time zone.
            bundle, adapter: of the active policy (NAME@HASH as episodes have it, `base` for no adapter); those of the
                last episode when None, which a candidate may have played.
            steps: optimiser steps that the learner has done; None where nobody tells.

        Raises:
            TriggerError: the log cannot be read or written; nothing was decided then.
        """
        if not rows and (bundle is None or adapter is None):
            return []
        evidence = Evidence(
            rows,
            self._log.read(),
            rows[-1].bundle if bundle is None else bundle,
            rows[-1].adapter if adapter is None else adapter,
            now,
            steps,
            self._calibration,
        )
        events = decide(self._settings, evidence)
        self._log.append(events)
        return events

    def standing(self, bundle: str, adapter: str) -> set[str]:
        """Those of LASTING that have fired for a policy and were not cleared since.

        Raises:
            TriggerError: the log cannot be read.
        """
        past, policy = self._log.read(), f"{bundle}/{adapter}"
        last = {trigger: last_decision(past, trigger, policy) for trigger in LASTING}
        return {trigger for trigger, event in last.items() if event is not None and event.kind == "fired"}

    def fired_since(self, trigger: str, since: str) -> bool:
        """Whether a trigger has fired for any policy at or after a time (ISO 8601; ever when empty).

        Raises:
            TriggerError: the log cannot be read.
        """
        times = [event.time for event in self._log.read() if (event.trigger, event.kind) == (trigger, "fired")]
        return any(not since or datetime.fromisoformat(time) >= datetime.fromisoformat(since) for time in times)
