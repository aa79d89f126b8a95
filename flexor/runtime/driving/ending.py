"""Ending: how an episode ended, and on whose word."""

from __future__ import annotations

from dataclasses import dataclass

from flexor.runtime.robot import FailureEvent

ABORTED = "aborted by the {source}"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an episode ended.

    Attributes:
        outcome: success, failure, abort or unknown.
        reason: why it was aborted; empty otherwise.
        failure_label, failure_events: as the robot's last status told them.
        judged: whether somebody, or the robot itself, said so; False where the program broke it off or nobody knows.
    """

    outcome: str
    reason: str = ""
    failure_label: str | None = None
    failure_events: tuple[FailureEvent, ...] = ()
    judged: bool = False

    @classmethod
    def said(cls, verdict: str, source: str) -> Ending:
        """The ending that a judge's verdict is: success, failure or abort."""
        return cls(verdict, ABORTED.format(source=source) if verdict == "abort" else "", judged=True)
