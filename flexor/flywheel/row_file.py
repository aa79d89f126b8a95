"""RowFile: what a long measurement has finished, one JSON line each, so that a stopped one goes on.

The rows are the episodes of an evaluation, or the steps of an online loop.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.errors import FlexorError

Row = dict[str, Any]


class RowFileError(FlexorError):
    """A file of rows that is in use, damaged, of other conditions, or cannot be written."""


def row_key(row: Mapping[str, Any]) -> tuple[str, int, str | None]:
    """What tells an episode from the others of its evaluation: task, seed, and the original task if it has one."""
    return row["task"], row["seed"], row.get("original")


def read_rows(path: Path) -> list[Row]:
    """The rows that are finished, oldest first, of a file that somebody else may be filling.

    Raises:
        RowFileError: it cannot be read, or is no file of rows.
    """
    try:
        content = path.read_bytes()
        first, *rows = (json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines() or [b"{}"])
        if rows and "conditions" not in first:
            raise ValueError("its first line names no conditions")
    except OSError as error:
        raise RowFileError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError) as error:
        raise RowFileError(f"{path} is no file of rows ({error}); move it away") from error
    return rows


class RowFile:
    """A file of rows open for appending; a context. While it is open, no other process can open it.

    Its first line says under which conditions the rows came about; only rows of the same conditions are added. What a
    killed process left of its last line is cut off.

    Attributes:
        path: where it is.
        conditions: everything that decides what a row says.
        rows: those that are there, oldest first, each once.
    """

    def __init__(
        self,
        path: Path,
        conditions: Mapping[str, Any],
        fresh: bool = False,
        key: Callable[[Mapping[str, Any]], Hashable] = row_key,
    ) -> None:
        """`conditions` are ready for JSON; `fresh` throws away what is there; `key` tells rows from each other."""
        self.path, self.conditions, self._fresh = path, json.loads(json.dumps(conditions)), fresh
        self._key = key
        self._descriptor: int | None = None
        self.rows: list[Row] = []

    def __enter__(self) -> RowFile:
        """Raises RowFileError when the file is in use, damaged, of other conditions, or cannot be opened."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = self.path.read_bytes()
            whole = 0 if self._fresh else content.rfind(b"\n") + 1
            if whole < len(content):
                os.ftruncate(self._descriptor, whole)
            self._read(content[:whole])
        except BlockingIOError as error:
            self._close()
            raise RowFileError(f"{self.path} is being filled by another flexor; wait until it ends") from error
        except OSError as error:
            self._close()
            raise RowFileError(f"{self.path} cannot be opened for rows: {error}") from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def append(self, row: Row) -> None:
        """Add one row; when this returns, it is on the disk.

        Raises:
            RowFileError: the disk refused, and the file is as it was before.
        """
        self._write(row)
        self.rows.append(row)

    def _read(self, content: bytes) -> None:
        lines = content.splitlines()
        if not lines:
            return self._write({"conditions": self.conditions})
        try:
            first, *rows = (json.loads(line) for line in lines)
            there = first["conditions"]
            keyed = {self._key(row): row for row in rows}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RowFileError(f"{self.path} is no file of rows ({error!r}); move it away, or name another") from error
        differing = [key for key in {**there, **self.conditions} if there.get(key) != self.conditions.get(key)]
        if differing:
            told = ", ".join(f"{key} {there.get(key)!r} instead of {self.conditions.get(key)!r}" for key in differing)
            raise RowFileError(f"{self.path} holds rows of other conditions: {told}; move it away, or name another")
        self.rows = list(keyed.values())

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._descriptor is None:
            raise RowFileError(f"{self.path} is not open; use it in a with statement")
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, data)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise RowFileError(f"a row cannot be written to {self.path}: {error}; make room on the disk") from error

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
