"""RowFile: what a long measurement has finished, one JSON line each, so that a stopped one goes on.

The rows are the episodes of an evaluation, or the steps of an online loop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.line_file import LineFile, whole_lines

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
        first, *rows = (json.loads(line) for line in whole_lines(path.read_bytes()) or [b"{}"])
        if rows and "conditions" not in first:
            raise ValueError("its first line names no conditions")
    except OSError as error:
        raise RowFileError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError) as error:
        raise RowFileError(f"{path} is no file of rows ({error}); move it away") from error
    return rows


class RowFile:
    """A LineFile of rows; a context.

    Its first line says under which conditions the rows came about; only rows of the same conditions are added.

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
        self.path, self.conditions, self._key = path, json.loads(json.dumps(conditions)), key
        self._file = LineFile(path, RowFileError, fresh)
        self.rows: list[Row] = []

    def __enter__(self) -> RowFile:
        """Raises RowFileError when the file is in use, damaged, of other conditions, or cannot be opened."""
        with ExitStack() as stack:
            lines = stack.enter_context(self._file).lines
            if lines:
                self._read(lines)
            else:
                self._file.append({"conditions": self.conditions})
            stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def append(self, row: Row) -> None:
        """Add one row; when this returns, it is on the disk.

        Raises:
            RowFileError: see LineFile.append.
        """
        self._file.append(row)
        self.rows.append(row)

    def _read(self, lines: Sequence[bytes]) -> None:
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
