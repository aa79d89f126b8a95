"""LineFile: JSON lines on disk, appended whole, by one process at a time: what a stopped measurement goes on from.

What lies in the lines, and what of it is refused, is its users' matter.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flexor.errors import FlexorError


def whole_lines(content: bytes) -> list[bytes]:
    """The lines that have an end; what a killed process left of its last one is no line."""
    return content[: content.rfind(b"\n") + 1].splitlines()


class LineFile:
    """A file of lines open for appending; a context. While it is open, no other process can open it.

    The lock is the kernel's and ends with the process. What a killed process left of its last line is cut off.

    Attributes:
        path: where it is.
        lines: those that were there when it was opened.
    """

    def __init__(self, path: Path, error: type[FlexorError], fresh: bool = False) -> None:
        """`error` is what is raised; `fresh` throws away what is there."""
        self.path, self._error, self._fresh = path, error, fresh
        self.lines: list[bytes] = []
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Raises `error` when the file is in use, cannot be opened or cannot be read."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = b"" if self._fresh else self.path.read_bytes()
            self.lines = whole_lines(content)
            os.ftruncate(self._descriptor, content.rfind(b"\n") + 1)
        except BlockingIOError as error:
            self.close()
            raise self._error(
                f"{self.path} is being filled by another flexor; wait until it ends, or stop it"
            ) from error
        except OSError as error:
            self.close()
            raise self._error(f"{self.path} cannot be opened to be filled: {error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line; when this returns, it is on the disk.

        Raises `error` when the disk refuses, and the file is as it was before; or when somebody put another file there,
        as a checkout of another commit does.
        """
        if self._descriptor is None:
            raise self._error(f"{self.path} is not open; use it in a with statement")
        if not self.path.exists() or not os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
            raise self._error(f"{self.path} was replaced or removed while it was filled; give the command again")
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, data)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise self._error(f"a line cannot be written to {self.path}: {error}; make room on the disk") from error

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
