"""PrefixStore: encoded prefixes on disk, one file each, the ones unused for longest thrown away first."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from flexor.errors import FlexorError

SUFFIX, DRAFT = ".safetensors", ".draft-"
KEPT_SHARE = 0.9  # of the budget, when something is thrown away: not one file at a time


class PrefixStoreError(FlexorError):
    """The disk refuses, or one prefix is larger than the whole budget."""


class PrefixStore:
    """Tensors by key. What is in it can always be computed again: nothing of it is synced, and a torn file is a miss.

    One process uses a folder at a time, by as many threads as it likes.

    Args:
        folder: made when it is not there.
        budget_bytes: of all files together.

    Raises:
        PrefixStoreError: the folder cannot be used.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self._folder, self._budget, self._lock = folder, budget_bytes, threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for draft in folder.glob(f"{DRAFT}*"):  # of a process that was killed
                self._remove(draft)
            self._held = sum(path.stat().st_size for path in self._files())
        except OSError as error:
            raise PrefixStoreError(f"the prefix cache {folder} cannot be used: {error}") from error

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of a key, which counts as used now; None where there are none."""
        path = self._path(key)
        try:
            tensors = load_file(path)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            self._remove(path)
            return None
        return tensors

    def put(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep the tensors, throwing away others where there is no room.

        Raises:
            PrefixStoreError: the disk refuses, or they alone do not fit into the budget.
        """
        content = save(tensors)
        if len(content) > self._budget:
            raise PrefixStoreError(
                f"a prefix takes {len(content)} bytes, and the cache may hold {self._budget}; raise cache_mb"
            )
        with self._lock:
            if self._held + len(content) > self._budget:
                self._make_room(len(content))
            try:
                with tempfile.NamedTemporaryFile(dir=self._folder, prefix=DRAFT, delete=False) as draft:
                    draft.write(content)
                os.replace(draft.name, self._path(key))
            except OSError as error:
                raise PrefixStoreError(
                    f"cannot write to the prefix cache {self._folder}: {error}; free the disk"
                ) from error
            self._held += len(content)

    def _make_room(self, size: int) -> None:
        oldest_first = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._files())
        for _, length, path in oldest_first:
            if self._held + size <= KEPT_SHARE * self._budget:
                return
            self._remove(path)
            self._held -= length

    def _files(self) -> list[Path]:
        return list(self._folder.glob(f"*{SUFFIX}"))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)
