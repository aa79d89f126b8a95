"""Evidence: what the triggers decide on: episodes, earlier decisions, the learner's progress, and a clock."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flexor.flywheel.cycles import judged
from flexor.flywheel.triggers.trigger_event import TriggerEvent
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.calibration import Calibration


@dataclass(frozen=True)
class Evidence:
    """All that is known at one moment.

    Attributes:
        rows: of the index, in the order in which the episodes began.
        past: earlier decisions, oldest first.
        bundle, adapter: of the policy that is active, as the episodes have them.
        now: the caller's clock.
        steps: optimiser steps that the learner has done; None where nobody tells.
        calibration: of the entropy scores; None without one.
    """

    rows: Sequence[EpisodeRow]
    past: Sequence[TriggerEvent]
    bundle: str
    adapter: str
    now: datetime
    steps: int | None = None
    calibration: Calibration | None = None

    @property
    def policy(self) -> str:
        """The active policy in one word."""
        return f"{self.bundle}/{self.adapter}"

    @functools.cached_property
    def own(self) -> list[EpisodeRow]:
        """Episodes that the active policy played."""
        return [row for row in self.rows if (row.bundle, row.adapter) == (self.bundle, self.adapter)]

    @functools.cached_property
    def judged(self) -> list[tuple[EpisodeRow, bool]]:
        """Those of them of which it is known whether the policy succeeded by itself, and whether it did."""
        return [(row, told) for row in self.own if (told := judged(row)) is not None]

    def last(self, trigger: str) -> TriggerEvent | None:
        """The last time that a trigger fired for the active policy, or was cleared."""
        return last_decision(self.past, trigger, self.policy)

    def event(self, trigger: str, kind: str, why: str, numbers: Mapping[str, Any]) -> TriggerEvent:
        """A decision of now about the active policy."""
        time = self.now.astimezone(UTC).isoformat(timespec="milliseconds")
        return TriggerEvent(time, trigger, kind, self.policy, numbers, why)

    def unable(self, trigger: str, reason: str, why: str, numbers: Mapping[str, Any]) -> list[TriggerEvent]:
        """That a trigger cannot fire, said once a policy and reason."""
        event = self.event(trigger, "unable", why, {"reason": reason, **numbers})
        same = (trigger, "unable", self.policy, dict(event.numbers))
        known = any((old.trigger, old.kind, old.policy, dict(old.numbers)) == same for old in self.past)
        return [] if known else [event]


def last_decision(past: Sequence[TriggerEvent], trigger: str, policy: str) -> TriggerEvent | None:
    """The last time that a trigger fired for a policy, or was cleared."""
    wanted = (trigger, policy)
    of_it = (event for event in reversed(past) if (event.trigger, event.policy) == wanted)
    return next((event for event in of_it if event.kind in ("fired", "cleared")), None)
