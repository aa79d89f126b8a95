"""SharedImages: a client's images in memory that the server may look into; MappedImages: the server's look.

The memory is a memfd that can neither shrink nor grow (F_SEAL_SHRINK, F_SEAL_GROW): a server that mapped it cannot be
made to fault. It is divided into slots, one a request; a client fills a slot, names its images in the request's key
`shared` ([{"name", "dtype", "shape", "offset"}, ...]), and leaves the slot alone until the request has ended. Nothing
but that rule keeps the pixels as they were: the server relies on offsets, dtypes and shapes, which it has checked and
which do not lie in the memory, and never on a pixel being the same when it is read again.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.serving.wire import (
    ENTRY,
    MAX_ARRAYS,
    MAX_TOTAL_BYTES,
    Message,
    WireError,
    array_bytes,
    array_in,
    short,
)

SHARED = "shared"  # the header's key for what lies in the memory
SLOTS = 4  # one computed, one waiting, and two whose replies are on the way
ALIGNMENT = 64  # bytes, a line of the cache
MAX_MEMORY_BYTES = SLOTS * (MAX_TOTAL_BYTES + MAX_ARRAYS * ALIGNMENT + mmap.PAGESIZE)
# Numbers of Linux; Python's fcntl has them under names that other systems lack.
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 1, 2, 4
NEEDED_SEALS = F_SEAL_SHRINK | F_SEAL_GROW
_UINT8 = np.dtype(np.uint8)
_SHARED_ENTRY = ENTRY | {"offset"}


def slot_bytes(images: Mapping[str, NDArray[Any]]) -> int:
    """What `images` take of a slot, in bytes; 0 when one of them is none: not uint8, or empty."""
    total = 0
    for image in images.values():
        if image.dtype != _UINT8 or not image.nbytes:
            return 0
        total += _aligned(image.nbytes)
    return total


class SharedImages:
    """The memory of one client, with room for `SLOTS` requests whose images take `needed` bytes each.

    Raises:
        OSError: the system gives no such memory.
    """

    def __init__(self, needed: int) -> None:
        self.slot_bytes = -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE
        size = SLOTS * self.slot_bytes
        self.fd = os.memfd_create("flexor-images", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, F_ADD_SEALS, NEEDED_SEALS | F_SEAL_SEAL)
            self._pixels = np.frombuffer(mmap.mmap(self.fd, size), np.uint8)
        except BaseException:
            os.close(self.fd)
            raise
        self._free = list(range(SLOTS))
        self._lent: dict[int, int] = {}

    def put(self, request_id: int, images: Mapping[str, NDArray[np.uint8]]) -> list[dict[str, Any]] | None:
        """Copy uint8 images into a slot that is lent to the request; what to say of them, None when no slot is free.

        The images take at most `slot_bytes`.
        """
        if not self._free:
            return None
        slot = self._lent[request_id] = self._free.pop()  # the one used last is still in the caches
        offset = slot * self.slot_bytes
        table: list[dict[str, Any]] = []
        for name, image in images.items():
            np.copyto(self._pixels[offset : offset + image.nbytes].reshape(image.shape), image)
            table.append({"name": name, "dtype": "uint8", "shape": list(image.shape), "offset": offset})
            offset += _aligned(image.nbytes)
        return table

    def give_back(self, request_id: int) -> None:
        """The request has ended: its slot, if it had one, is free."""
        slot = self._lent.pop(request_id, None)
        if slot is not None:
            self._free.append(slot)

    def close(self) -> None:
        """Let go of the memory; what a server has mapped stays until it lets go, too."""
        os.close(self.fd)
        self._pixels = np.empty(0, np.uint8)
        self._free.clear()


class MappedImages:
    """A client's memory as the server sees it: read-only, checked once, unmapped with the last array in it.

    Args:
        fd: what the client sent; it stays the caller's to close.

    Raises:
        WireError: bad_memory: no memory file, not sealed, empty, too large, or not to be mapped.
    """

    def __init__(self, fd: int, request_id: int | None) -> None:
        try:
            status = os.fstat(fd)
            seals = fcntl.fcntl(fd, F_GET_SEALS) if stat.S_ISREG(status.st_mode) else 0
            if seals & NEEDED_SEALS != NEEDED_SEALS:
                raise WireError(
                    "bad_memory",
                    f"the memory has seals {seals}; expected a memfd with F_SEAL_SHRINK and F_SEAL_GROW",
                    request_id,
                )
            size = os.fstat(fd).st_size  # after the seals were seen: from now on it is what it is
            if not 0 < size <= MAX_MEMORY_BYTES:
                text = f"the memory has {size} bytes; expected 1 to {MAX_MEMORY_BYTES}"
                raise WireError("bad_memory", text, request_id)
            self._memory = memoryview(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ))
        except (OSError, ValueError) as error:
            raise WireError("bad_memory", f"the memory cannot be mapped: {error}", request_id) from error

    def complete(self, message: Message) -> Message:
        """`message` with the images that its key `shared` names as arrays; views of the memory.

        Raises:
            WireError: bad_array or too_large: an entry that no frame could have either, or outside the memory.
        """
        table = message.fields[SHARED]
        if not isinstance(table, list) or len(table) + len(message.arrays) > MAX_ARRAYS:
            text = f"{SHARED} is {short(table)}; expected a list, and at most {MAX_ARRAYS} arrays in all"
            raise WireError("bad_array", text, message.id)
        arrays = dict(message.arrays)
        total = sum(array.nbytes for array in arrays.values())
        for entry in table:
            expected = array_bytes(entry, arrays, message.id, _SHARED_ENTRY)
            total += expected
            if total > MAX_TOTAL_BYTES:
                raise WireError("too_large", f"arrays of {total} bytes; at most {MAX_TOTAL_BYTES} fit", message.id)
            offset, size = entry["offset"], len(self._memory)
            if type(offset) is not int or not 0 <= offset <= size - expected:
                text = f"{entry['name']!r} has {expected} bytes from {short(offset)} on; the memory has {size}"
                raise WireError("bad_array", text, message.id)
            arrays[entry["name"]] = array_in(entry, self._memory[offset : offset + expected])
        fields = {key: value for key, value in message.fields.items() if key != SHARED}
        return Message(message.type, message.id, fields, arrays)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
