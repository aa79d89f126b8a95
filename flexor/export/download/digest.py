"""Digest: what the bytes of a file have to come to, in the four ways in which the hub and buckets tell it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flexor.export.download.crc32c import Crc32c

READ_BYTES = 1 << 20


class Hasher(Protocol):
    """What hashlib's objects can."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""
        ...


HASHERS: dict[str, Callable[[int], Hasher]] = {
    "sha256": lambda size: hashlib.sha256(),
    "git-sha1": lambda size: hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False),
    "md5": lambda size: hashlib.md5(usedforsecurity=False),
    "crc32c": lambda size: Crc32c(),
}
"""By algorithm: from a file's size to its hasher. git hashes a header with the size before the content."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's content comes to.

    Attributes:
        algorithm: a key of HASHERS. Only sha256 stands up to someone who means harm; the others find accidents.
        hex: the digest in lower-case hexadecimal.
    """

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.hex}"

    def hasher(self, size: int) -> Hasher:
        """A fresh hasher for a file of `size` bytes."""
        return HASHERS[self.algorithm](size)


def feed(hasher: Hasher, path: Path, told: Callable[[int], None] = lambda count: None) -> int:
    """Read a whole file into `hasher`; returns its bytes, and tells each piece's to `told`.

    Raises:
        OSError: it cannot be read.
    """
    size = 0
    with path.open("rb") as stream:
        while piece := stream.read(READ_BYTES):
            hasher.update(piece)
            size += len(piece)
            told(len(piece))
    return size
