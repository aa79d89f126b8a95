"""Where the episodes of a root lie: finished ones, and those whose writer has not finished them."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flexor.runtime.episodes.episode_schema import EpisodeError


def episode_folder(root: Path) -> Path:
    """The folder of a root that its episodes lie in. Raises EpisodeError when there is none."""
    folder = root / "episodes"
    if not folder.is_dir():
        raise EpisodeError(
            f"{root} holds no episodes: it has no folder named episodes; give a folder that was logged to"
        )
    return folder


def finished_files(root: Path) -> list[Path]:
    """The finished episode files of a root, oldest first."""
    return sorted((root / "episodes").glob("*.mcap"))


def unfinished_files(root: Path) -> list[Path]:
    """The files of episodes that run now, or whose writer was killed, oldest first."""
    return sorted((root / "episodes").glob("*.mcap.part"))


@contextlib.contextmanager
def hold_file(path: Path) -> Iterator[BinaryIO]:
    """Open `path` to read, for as long as nobody else writes it.

    Raises:
        EpisodeError: a living process writes it.
        OSError: it is not there, or not readable.
    """
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EpisodeError(f"{path} is still being recorded; end the episode or its process first") from error
        # Its writer may have finished and renamed it between the two lines above: then this is no longer that file.
        path.stat()
        yield stream


def is_being_recorded(path: Path) -> bool:
    """Whether a living process writes this file."""
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def newest_file(root: Path) -> Path:
    """The finished episode of a root that began last. Raises EpisodeError when there is none."""
    files = finished_files(root)
    if not files:
        raise EpisodeError(f"{root} holds no finished episode; give a folder that was logged to, or an episode file")
    return files[-1]
