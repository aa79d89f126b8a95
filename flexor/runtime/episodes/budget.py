"""Keeps an episode folder within a number of bytes: the oldest successes go first, what failed stays longest."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flexor.runtime.episodes.episode_files import episode_folder, finished_files, is_being_recorded
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex, EpisodeRow


@dataclass(frozen=True, slots=True)
class Evicted:
    """An episode that was removed, or would be.

    Attributes:
        id, file, started, outcome: as in EpisodeRow.
        bytes: size of its file.
    """

    id: str
    file: str
    started: str
    outcome: str
    bytes: int


class DiskBudget:
    """At most `max_bytes` bytes in the files of `root`/episodes; the index beside them does not count."""

    def __init__(self, root: Path | str, max_bytes: int) -> None:
        """Raises EpisodeError when the budget is less than one byte or `root` was never logged to."""
        if max_bytes < 1:
            raise EpisodeError(
                f"the disk budget is {max_bytes} bytes; give 1 or more, or delete the folder to be rid of every episode"
            )
        self.root, self.max_bytes = Path(root), max_bytes
        self._folder = episode_folder(self.root)

    def used_bytes(self) -> int:
        """Size of all files in `root`/episodes: finished, being recorded and set aside."""
        with self._disk():
            return sum(_size(path) for path in self._folder.iterdir())

    def evict(self, dry_run: bool = False) -> list[Evicted]:
        """Remove finished episodes until the folder fits, and return them in the order they went.

        Successes go first, oldest first; then all others, oldest first. An episode that somebody writes or recovers
        stays, and so does a file without a row in the index: it may have ended this moment. The folder may be over
        the budget still when nothing else is left to remove. A process that is killed in here leaves at most one
        file without its row, never a row without its file.

        Args:
            dry_run: only tell which would go.

        Raises:
            EpisodeError: another process evicts from this folder now, or the disk or the index refuses.
        """
        evicted: list[Evicted] = []
        with self._disk(), contextlib.nullcontext() if dry_run else self._alone():
            excess = self.used_bytes() - self.max_bytes
            for path, row in self._candidates():
                if excess <= 0:
                    break
                if not _may_go(path):
                    continue
                size = _size(path)
                if not dry_run:
                    EpisodeIndex(self.root).remove(row.id)
                    path.unlink()
                evicted.append(Evicted(row.id, row.file, row.started, row.outcome, size))
                excess -= size
        return evicted

    def _candidates(self) -> list[tuple[Path, EpisodeRow]]:
        rows = {row.file: row for row in EpisodeIndex(self.root).episodes()}
        files = {path.relative_to(self.root).as_posix(): path for path in finished_files(self.root)}
        listed = [(path, rows[file]) for file, path in files.items() if file in rows]
        return sorted(listed, key=lambda pair: (pair[1].outcome != "success", pair[1].started, pair[1].id))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # Two processes that evict together would each free what both lack. The lock ends with the process.
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EpisodeError(f"another process evicts from {self.root} now; let it finish first") from error
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EpisodeError(
                f"cannot make room in {self.root}: {error}; mend its permissions, then "
                f"`flexor episodes verify {self.root} --repair` lists again what is still there"
            ) from error


def _may_go(path: Path) -> bool:
    try:
        return not is_being_recorded(path)
    except FileNotFoundError:
        return False  # somebody else removed it meanwhile


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # its episode ended, and it has another name by now
