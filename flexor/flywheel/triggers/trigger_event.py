"""TriggerEvent: one decision of a trigger, with the numbers that it was taken on; a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from flexor.errors import FlexorError

ACTIONS = {
    "success_rate": "fine_tune",
    "consecutive_failures": "correct",
    "entropy": "prioritise",
    "publish": "publish",
}
"""By trigger: what it asks for when it fires."""

KINDS = ("fired", "cleared", "unable", "started")


class TriggerError(FlexorError):
    """A log of decisions that cannot be read or written."""


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """One decision.

    Attributes:
        time: UTC, ISO 8601, as the caller's clock had it.
        trigger: a key of ACTIONS.
        kind: fired; cleared, when what it fired for is over; unable, when it cannot fire, with why; started, where a
            period begins to count.
        policy: whose episodes it is about: BUNDLE@HASH/ADAPTER.
        numbers: what it was decided on; has a JSON form.
        why: in words, with the way out where there is one.
    """

    time: str
    trigger: str
    kind: str
    policy: str
    numbers: Mapping[str, Any]
    why: str

    @property
    def action(self) -> str | None:
        """What is asked for; None of a decision that asks for nothing."""
        return ACTIONS[self.trigger] if self.kind == "fired" else None

    def line(self) -> str:
        """One line of JSON, the action said again for who reads it alone."""
        return json.dumps({**asdict(self), "action": self.action}, sort_keys=True) + "\n"

    @classmethod
    def parse(cls, line: str | bytes) -> TriggerEvent:
        """From its line. Raises TriggerError when it is not whole."""
        try:
            told = json.loads(line)
            event = cls(**{field.name: told[field.name] for field in fields(cls)})
            if event.trigger not in ACTIONS or event.kind not in KINDS or not isinstance(event.numbers, dict):
                raise ValueError(f"trigger {event.trigger!r}, kind {event.kind!r}")
        except (ValueError, KeyError, TypeError) as error:
            raise TriggerError(f"a decision does not read ({type(error).__name__}: {error}): {line[:80]!r}") from error
        return event
