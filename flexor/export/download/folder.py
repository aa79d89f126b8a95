"""DownloadFolder: where a download goes: its note, the lock of whoever fills it, and what is not whole yet.

DIR/flexor-download.json     source, revision and digests of the files
DIR/.flexor-download/        only until all is whole: the lock, and a .part with its .json for each begun file
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from flexor.export.download.remote_file import NOTE, WORK_FOLDER, DownloadError, Listing, RemoteFile
from flexor.runtime.disk import sync

SPARE_BYTES = 64 << 20
"""What a download leaves free on the disk."""


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a file: its bytes, and beside them whose bytes they are."""

    path: Path

    @property
    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def etag_for(self, file: RemoteFile) -> str | None:
        """The ETag under which the bytes came, "" when there was none, None when they are of another content."""
        try:
            told = json.loads(self._about.read_text())
            matches = told["digest"] == str(file.digest) and isinstance(told["etag"], str)
            return told["etag"] if matches and self.size <= file.size else None
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def begin(self, file: RemoteFile, etag: str) -> None:
        """Forget what is there; the bytes to come are `file`'s, served under `etag`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._about.write_text(json.dumps({"file": file.path, "digest": str(file.digest), "etag": etag}))

    def remove(self) -> None:
        """Forget what is there."""
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    @property
    def _about(self) -> Path:
        return self.path.with_suffix(".json")


@dataclass(slots=True)
class DownloadFolder:
    """A folder that one process at a time fills from one source. Use it as a context, which makes and locks it.

    Raises:
        DownloadError: on entering: it cannot be made, or another process is at it.
    """

    path: Path
    _made: list[Path] = field(default_factory=list)
    _lock: IO[str] | None = None

    def note(self) -> dict[str, Any] | None:
        """What an earlier download wrote about this folder; None when there was none.

        Raises:
            DownloadError: it cannot be read.
        """
        path = self.path / NOTE
        try:
            told = json.loads(path.read_text())
            if not (isinstance(told, dict) and isinstance(told["source"], str) and isinstance(told["revision"], str)):
                raise ValueError("expected an object with source and revision")
            return told
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            raise DownloadError(f"{path} cannot be read: {error}; remove it, or choose another --out") from error

    def write_note(self, listing: Listing, complete: bool) -> None:
        """Say durably what the folder holds, or is about to."""
        files = [{"path": f.path, "size": f.size, "digest": str(f.digest)} for f in listing.files]
        told = {"schema": 1, "source": listing.source, "revision": listing.revision, "complete": complete}
        draft = self._work / NOTE
        draft.write_text(json.dumps({**told, "files": files}, indent=2) + "\n")
        sync(draft)
        os.replace(draft, self.path / NOTE)
        sync(self.path)

    def target(self, file: RemoteFile) -> Path:
        """Where a file belongs."""
        return self.path / file.path

    def part(self, file: RemoteFile) -> Part:
        """Where it grows."""
        name = hashlib.sha256(file.path.encode()).hexdigest()[:16]
        return Part(self._work / f"{name}.part")

    def missing_bytes(self, listing: Listing) -> int:
        """Bytes that have still to be written, files that lie there taken for what they should be."""
        missing = 0
        for file in listing.files:
            if not self.target(file).exists():
                part = self.part(file)
                missing += file.size - (part.size if part.etag_for(file) is not None else 0)
        return missing

    def require_room(self, listing: Listing) -> None:
        """Check that what is missing fits on the disk.

        Raises:
            DownloadError: it does not.
        """
        there = self.path.absolute()
        while not there.exists():
            there = there.parent
        free, missing = shutil.disk_usage(there).free, self.missing_bytes(listing)
        if missing and missing + SPARE_BYTES > free:
            raise DownloadError(
                f"{listing.source} needs {missing / 1e9:.2f} GB more at {self.path}, and {free / 1e9:.2f} GB are free "
                f"there (of which {SPARE_BYTES >> 20} MiB are left free); nothing was changed: make room, choose "
                "another --out, or leave files out with --exclude"
            )

    def finish(self, listing: Listing) -> None:
        """All files are whole: say so, and remove what was needed until then."""
        self.write_note(listing, complete=True)
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def _work(self) -> Path:
        return self.path / WORK_FOLDER

    def __enter__(self) -> DownloadFolder:
        missing = [folder for folder in (self._work, *self._work.parents) if not folder.exists()]
        try:
            self._work.mkdir(parents=True, exist_ok=True)
            self._made = missing
            lock = (self._work / "lock").open("a")
        except OSError as error:
            raise DownloadError(f"{self.path} cannot be written to: {error}; choose another --out") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self._work / "lock").stat()  # whoever had it a moment ago may just have finished and removed it
        except OSError as error:
            lock.close()
            raise DownloadError(f"another process downloads into {self.path}; wait for it, or end it") from error
        self._lock = lock
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock is not None:
            self._leave_nothing_empty()
            self._lock.close()

    def _leave_nothing_empty(self) -> None:
        """When nothing came, nothing of the attempt stays: not the note, not the folders that were made for it."""
        ours = {self.path / NOTE, self._work, self._work / "lock"}
        if self._work.exists() and ours.issuperset(self.path.rglob("*")):
            shutil.rmtree(self._work, ignore_errors=True)
            (self.path / NOTE).unlink(missing_ok=True)
            for folder in self._made:
                if folder != self._work:
                    folder.rmdir()
