"""Judge: who says how an episode ended where the robot cannot, or is not to be asked."""

from __future__ import annotations

from typing import Protocol


class Judge(Protocol):
    """A person, or a program that looks on. One thread uses it; a call returns well within a control period."""

    @property
    def source(self) -> str:
        """Whose word it is, for the record: operator or classifier."""
        ...

    @property
    def ready_s(self) -> float:
        """How long a run waits for ready() before an episode, seconds."""
        ...

    @property
    def answer_s(self) -> float:
        """How long the arm is held at the step limit for a verdict, seconds; then the outcome is unknown."""
        ...

    def ready(self) -> bool:
        """Asked before every episode until it says so: things lie where they should, the arm may move."""
        ...

    def begin(self) -> None:
        """An episode begins; what was said before is not about it."""
        ...

    def verdict(self) -> str | None:
        """Asked after every control step: success, failure, abort, or None while there is no end to it."""
        ...
