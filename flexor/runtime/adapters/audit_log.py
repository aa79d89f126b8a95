"""AuditLog: one JSON line for everything that happened to an adapter; appended, forced to disk, never rewritten."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

AUDIT = "audit.jsonl"


class AuditLog:
    """Writes one directory's log. A line that a killed writer cut stays as it is; the next one begins anew."""

    def __init__(self, root: Path) -> None:
        self._path = root / AUDIT

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write what happened, and return it as it was written.

        Raises:
            OSError: the disk refuses.
        """
        entry = {"at": now(), "event": event, **fields}
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            cut = size and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, b"\n" * bool(cut) + json.dumps(entry).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return entry


def read_audit(root: Path) -> tuple[list[dict[str, Any]], int]:
    """The entries of a directory's log, oldest first, and how many lines cannot be read."""
    path, entries, unreadable = root / AUDIT, [], 0
    if not path.exists():
        return [], 0
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            unreadable += 1
            continue
        entries.append(entry)
    return entries, unreadable


def now() -> str:
    """The time as records and the log have it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
