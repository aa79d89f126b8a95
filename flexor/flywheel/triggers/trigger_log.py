"""TriggerLog: all decisions of one flywheel, one line each; with the index of episodes it is all the state there is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flexor.flywheel.triggers.trigger_event import TriggerError, TriggerEvent

TRIGGERS = "triggers.jsonl"


class TriggerLog:
    """`root`/triggers.jsonl. One process writes; a line that a killed writer cut was never a decision.

    Attributes:
        unreadable: lines of the last read() that are damaged.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / TRIGGERS
        self.unreadable = 0

    def read(self) -> list[TriggerEvent]:
        """The decisions so far, oldest first; damaged lines are counted and left out.

        Raises:
            TriggerError: the disk refuses.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise TriggerError(f"cannot read {self.path}: {error}; mend its permissions") from error
        events, self.unreadable = [], 0
        for line in filter(None, lines):
            try:
                events.append(TriggerEvent.parse(line))
            except TriggerError:
                self.unreadable += 1
        return events

    def append(self, events: Sequence[TriggerEvent]) -> None:
        """Add decisions; they are on disk when this returns, and only then may anybody act on them.

        Raises:
            TriggerError: the disk refuses.
        """
        if not events:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" * cut + "".join(event.line() for event in events).encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TriggerError(f"cannot write {self.path}: {error}; free the disk or mend its permissions") from error
