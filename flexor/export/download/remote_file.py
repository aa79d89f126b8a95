"""RemoteFile and Listing: what a source says it has. Names and sizes in it are a stranger's and are checked first."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from flexor.errors import FlexorError
from flexor.export.download.digest import Digest

NOTE = "flexor-download.json"
"""The file in a downloaded folder that says where it came from."""

WORK_FOLDER = ".flexor-download"
"""What is not whole yet lies in it, inside the folder that it will belong to."""

LONGEST_NAME = 255  # bytes, as Linux file systems have it
MOST_FILES = 100_000


class DownloadError(FlexorError):
    """Something could not be downloaded; the message says what of it is there."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a source.

    Attributes:
        path: its place in the folder, with slashes; checked by `Listing`.
        size: bytes.
        url: where it is.
        digest: what its content comes to.
    """

    path: str
    size: int
    url: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source has, all of it of one revision.

    Attributes:
        source: the source without a revision, such as "hf:lerobot/pi05_base".
        revision: a commit, or the hash of a bucket's listing: another one is another content.
        page: where people can look at it, and take files by hand.
        files: in the order of the source.
        explain: from an HTTP status to an error that says what to do about it.

    Raises:
        DownloadError: a name that leads out of the folder or cannot be a file beside the others, a size below 0.
    """

    source: str
    revision: str
    page: str
    files: tuple[RemoteFile, ...]
    explain: Callable[[int, str], DownloadError]

    def __post_init__(self) -> None:
        if len(self.files) > MOST_FILES:
            raise DownloadError(f"{self.source} lists {len(self.files)} files; expected {MOST_FILES} at most")
        paths = [file.path for file in self.files]
        for file in self.files:
            problem = _path_problem(file.path)
            if problem:
                raise DownloadError(
                    f"{self.source} lists a file named {file.path!r}, which {problem}; nothing was changed"
                )
            if file.size < 0:
                raise DownloadError(f"{self.source} says that {file.path} has {file.size} bytes; nothing was changed")
        if len(set(paths)) < len(paths):
            raise DownloadError(f"{self.source} lists a file twice; nothing was changed")
        folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        for path in folders.intersection(paths):
            raise DownloadError(f"{self.source} lists {path!r} as a file and as a folder; nothing was changed")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def select(self, include: Sequence[str], exclude: Sequence[str]) -> Listing:
        """Only the files that match a pattern of `include` (none: all) and none of `exclude`; `*` matches slashes too.

        Raises:
            DownloadError: nothing is left.
        """
        kept = tuple(
            file
            for file in self.files
            if (not include or _matches(file.path, include)) and not _matches(file.path, exclude)
        )
        if not kept:
            there = ", ".join(file.path for file in self.files[:20]) or "nothing"
            more = f" and {len(self.files) - 20} more" if len(self.files) > 20 else ""
            raise DownloadError(f"no file of {self.source} is left by --include and --exclude; it has {there}{more}")
        return replace(self, files=kept)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)


def _path_problem(path: str) -> str | None:
    """Why a file of a stranger's naming must not be written under this name; None when it may."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "leads out of the folder, or is no plain relative path"
    if "\\" in path or not path.isprintable():
        return "has a backslash or a character that does not print"
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "is not valid text"
    if longest > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    if parts[0] in (NOTE, WORK_FOLDER):
        return "is a name that flexor keeps for itself"
    return None
