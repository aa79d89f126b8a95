"""Keeps an episode folder within a number of bytes, and every episode that nobody has learned from yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flexor.runtime.episodes.corrections import corrections_file
from flexor.runtime.episodes.episode_files import episode_folder, finished_files, is_being_recorded
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex, IndexNoRoom
from flexor.runtime.episodes.index_row import EpisodeRow

# Which episodes may go although nobody has learned from them.
UNLEARNED = ("none", "successes", "all")


@dataclass(frozen=True, slots=True)
class Evicted:
    """An episode that was removed, or would be.

    Attributes:
        id, file, started, outcome, used_by: as in EpisodeRow.
        bytes: size of its file, and of what corrects it.
    """

    id: str
    file: str
    started: str
    outcome: str
    used_by: tuple[str, ...]
    bytes: int


class DiskBudget:
    """At most `max_bytes` bytes in the files of `root`/episodes; the index beside them does not count."""

    def __init__(self, root: Path | str, max_bytes: int, unlearned: str = "none") -> None:
        """The budget of a folder.

        Args:
            root: folder that episodes were logged to.
            max_bytes: 1 or more.
            unlearned: which episodes may go although nobody has learned from them (EpisodeIndex.mark_used): "none";
                "successes", in which nobody intervened; or "all".

        Raises:
            EpisodeError: the budget is less than one byte, `unlearned` is no such word, `root` was never logged to.
        """
        if unlearned not in UNLEARNED:
            raise EpisodeError(f'unlearned is "{unlearned}"; give one of {", ".join(UNLEARNED)}')
        if max_bytes < 1:
            raise EpisodeError(
                f"the disk budget is {max_bytes} bytes; give 1 or more, or delete the folder to be rid of every episode"
            )
        self.root, self.max_bytes, self.unlearned = Path(root), max_bytes, unlearned
        self._folder = episode_folder(self.root)

    def used_bytes(self) -> int:
        """Size of all files in `root`/episodes: finished, being recorded and set aside."""
        with self._disk():
            return sum(_size(path) for path in self._folder.iterdir())

    def evict(self, dry_run: bool = False) -> list[Evicted]:
        """Remove finished episodes until the folder fits, and return them in the order they went.

        Episodes that were learned from go before all others, then plain successes before failures and whatever
        somebody had to intervene in, then the older before the newer. What nobody learned from goes only as far as
        `unlearned` says. An episode that somebody writes or recovers stays, and so does a file without a row in the
        index: it may have ended this moment. The folder may be over the budget still when nothing else is left to
        remove. A process that is killed in here leaves one file without its row at most; where the disk is so full
        that the index cannot be changed before there is room, rows without their files.

        Args:
            dry_run: only tell which would go.

        Raises:
            EpisodeError: another process evicts from this folder now, or the disk or the index refuses.
        """
        evicted: list[Evicted] = []
        rows_left: list[str] = []
        index = EpisodeIndex(self.root)
        with self._disk(), contextlib.nullcontext() if dry_run else self._alone():
            excess = self.used_bytes() - self.max_bytes
            for path, row in sorted(self._listed(), key=_order):
                if excess <= 0:
                    break
                if self._protected(row) or _is_held(path):
                    continue
                size = _size(path) + _size(corrections_file(path))
                if not dry_run:
                    try:
                        index.remove(row.id)
                    except IndexNoRoom:
                        rows_left.append(row.id)
                    path.unlink()
                    if corrections_file(path).exists():  # later than the file: it never says less than it did
                        corrections_file(path).unlink()
                evicted.append(_evicted(row, size))
                excess -= size
            for episode_id in rows_left:
                index.remove(episode_id)
        return evicted

    def protected(self) -> list[Evicted]:
        """The finished episodes that stay whatever the budget, because nobody has learned from them yet."""
        with self._disk():
            return [_evicted(row, _size(path)) for path, row in self._listed() if self._protected(row)]

    def _protected(self, row: EpisodeRow) -> bool:
        if row.used_by or self.unlearned == "all":
            return False
        return self.unlearned == "none" or not _is_plain_success(row)

    def _listed(self) -> list[tuple[Path, EpisodeRow]]:
        rows = {row.file: row for row in EpisodeIndex(self.root).episodes()}
        files = {path.relative_to(self.root).as_posix(): path for path in finished_files(self.root)}
        return [(path, rows[file]) for file, path in files.items() if file in rows]

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


def _order(listed: tuple[Path, EpisodeRow]) -> tuple[bool, bool, str, str]:
    row = listed[1]
    return not row.used_by, not _is_plain_success(row), row.started, row.id


def _is_plain_success(row: EpisodeRow) -> bool:
    return row.outcome == "success" and row.interventions == 0


def _evicted(row: EpisodeRow, size: int) -> Evicted:
    return Evicted(row.id, row.file, row.started, row.outcome, row.used_by, size)


def _is_held(path: Path) -> bool:
    try:
        return is_being_recorded(path)
    except FileNotFoundError:
        return True  # somebody else removes it this moment


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # its episode ended, and it has another name by now
