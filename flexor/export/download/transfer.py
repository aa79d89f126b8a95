"""Transfer: one file from its URL to its place: resumed where it stopped, verified, and only then under its name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

from flexor.export.download.digest import Hasher, feed
from flexor.export.download.folder import DownloadFolder, Part
from flexor.export.download.remote_file import DownloadError, RemoteFile
from flexor.export.download.web import Refused, Tries, Unreachable, Web
from flexor.runtime.disk import sync

MOST_BEGINNINGS = 3
"""How often one call begins a file from its first byte: a server without ranges that keeps breaking off has an end."""

MOST_WRONG = 2
"""How often a file may come whole and wrong."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class WrongContent(DownloadError):
    """What came is not what the source's list says."""


class _Changed(Exception):
    """What is there of a file does not go on with what is served now."""


class _Wrong(Exception):
    """A file came whole, and is another one than listed."""


@dataclass(slots=True)
class _Growing:
    """A file that is not whole yet: its part on disk, the hash of what is in it, and how many bytes that are."""

    file: RemoteFile
    part: Part
    hasher: Hasher = field(init=False)
    have: int = 0

    def __post_init__(self) -> None:
        self.hasher = self.file.digest.hasher(self.file.size)
        if self.part.etag_for(self.file) is None:
            self.part.remove()
        elif self.part.size:
            self.have = feed(self.hasher, self.part.path)

    def begin(self, etag: str) -> None:
        """From the first byte."""
        self.hasher, self.have = self.file.digest.hasher(self.file.size), 0
        self.part.begin(self.file, etag)

    @property
    def is_whole(self) -> bool:
        return self.have == self.file.size and self.part.path.exists()


@dataclass(slots=True)
class Transfer:
    """Brings files into a folder.

    Attributes:
        web: what asks.
        folder: where they go.
        told: gets the bytes of a file that are there, each time there are more or fewer.
        received: bytes of contents that came over the network.
    """

    web: Web
    folder: DownloadFolder
    told: Callable[[RemoteFile, int], None]
    received: int = 0

    def fetch(self, file: RemoteFile) -> str:
        """Bring one file; returns "resumed" when bytes of an earlier call were used, else "downloaded".

        Raises:
            Unreachable, Refused: at last; what came stays for the next call.
            WrongContent: it came twice with other bytes than listed, or keeps changing; nothing of it stays.
            OSError: the disk refuses.
        """
        growing = _Growing(file, self.folder.part(file))
        resumed, wrong, beginnings, tries = growing.have > 0, 0, 0, Tries(self.web)
        while True:
            self.told(file, growing.have)
            try:
                if not growing.is_whole:
                    fresh = self._receive(growing, tries)
                    resumed, beginnings = resumed and not fresh, beginnings + fresh
                if not growing.is_whole:
                    raise Unreachable(
                        f"the answer for {file.path} ended after {growing.have} of {file.size} bytes", contact=True
                    )
                if growing.hasher.hexdigest() != file.digest.hex:
                    raise _Wrong(f"its {file.digest.algorithm} is {growing.hasher.hexdigest()}")
                break
            except (Unreachable, Refused) as error:
                if beginnings >= MOST_BEGINNINGS:
                    raise
                tries.failed(error)
            except (_Changed, _Wrong) as problem:
                wrong += isinstance(problem, _Wrong)
                growing.part.remove()
                growing = _Growing(file, growing.part)
                if wrong >= MOST_WRONG or beginnings >= MOST_BEGINNINGS:
                    raise WrongContent(
                        f"{file.path} is not what the list says ({file.digest}), in {max(wrong, beginnings)} tries: "
                        f"{problem}. Nothing of it was kept. It may be changing just now, or a proxy alters it: "
                        f"{file.url}"
                    ) from None
                self.web.retries += 1
        self._settle(growing)
        return "resumed" if resumed else "downloaded"

    def _receive(self, growing: _Growing, tries: Tries) -> bool:
        """Bring what is missing, as far as it comes; returns whether it was begun from the first byte.

        Raises:
            _Changed: what is there does not go with what the server has now.
        """
        file, part, have = growing.file, growing.part, growing.have
        etag = part.etag_for(file) if have else None
        headers = {"Range": f"bytes={have}-"} if have else {}
        if etag and not etag.startswith("W/"):
            headers["If-Range"] = etag
        try:
            response = self.web.open(file.url, headers)
        except Refused as error:
            if have and error.status == 416:
                raise _Changed("the server refuses the rest of it") from error
            raise
        with response:
            now = response.headers.get("ETag", "")
            goes_on = have > 0 and response.status == 206
            if goes_on and not (_continues(response, have, file.size) and now in ("", etag or now)):
                raise _Changed("the server has another file now")
            if not goes_on:  # the whole of it, also where its rest was asked for: it changed, or ranges are unknown
                length = response.headers.get("Content-Length", "")
                if length.isdigit() and int(length) != file.size:
                    raise _Wrong(f"the server has {length} bytes of it, the list says {file.size}")
                growing.begin(now)
            self._append(growing, response, tries)
        return not goes_on

    def _append(self, growing: _Growing, response: HTTPResponse, tries: Tries) -> None:
        with growing.part.path.open("ab") as stream:
            for piece in self.web.pieces(response, growing.file.size - growing.have):
                stream.write(piece)
                stream.flush()
                growing.hasher.update(piece)
                growing.have += len(piece)
                self.received += len(piece)
                tries.progressed(len(piece))
                self.told(growing.file, growing.have)
            os.fsync(stream.fileno())

    def _settle(self, growing: _Growing) -> None:
        """The part becomes the file, durably."""
        target = self.folder.target(growing.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        sync(growing.part.path)
        os.replace(growing.part.path, target)
        sync(target.parent)
        growing.part.remove()


def _continues(response: HTTPResponse, have: int, size: int) -> bool:
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == have and found[2] in (str(size), "*")


def verifies(file: RemoteFile, path: Path, told: Callable[[int], None] = lambda count: None) -> bool:
    """Whether the file at `path` is `file`.

    Raises:
        DownloadError: it cannot be read.
    """
    try:
        if path.stat().st_size != file.size:
            return False
        hasher = file.digest.hasher(file.size)
        feed(hasher, path, told)
    except OSError as error:
        raise DownloadError(f"{path} cannot be read: {error}") from error
    return hasher.hexdigest() == file.digest.hex
