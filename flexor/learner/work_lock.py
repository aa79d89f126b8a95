"""WorkLock: the right of one process to a learner's work folder; it ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from flexor.errors import FlexorError

LOCK = ".lock"


class WorkLock:
    """Use it as a context.

    Args:
        folder: made when missing.

    Raises:
        FlexorError: on entering: another process has the folder, or it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> WorkLock:
        path = self._folder / LOCK
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FlexorError(
                f"{self._folder} cannot be a learner's work folder: {error}; choose another --out"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._handle, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise FlexorError(
                f"{self._folder} is used by another learner (process {owner}); stop that one, or choose another --out"
            ) from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._handle)
