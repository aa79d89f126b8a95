"""Messages over a Unix socket that keeps packets apart: all frames of a message in one packet, and a file beside it.

A packet is a row of little-endian uint32, how many frames and the length of each, and then the frames. It goes as a
whole or not at all, and a packet that was sent before another arrives before it.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Sequence

from flexor.runtime.serving.wire import MAX_ARRAYS, Frame, WireError

MAX_PACKET_BYTES = 96 * 1024  # a header of the greatest size and what small arrays may need
MAX_FRAMES = 1 + MAX_ARRAYS
_COUNT = struct.Struct("<I")
_ROWS = [struct.Struct(f"<{count + 1}I") for count in range(MAX_FRAMES + 1)]
_FILE = array.array("i", [0])
_FILE_SPACE = socket.CMSG_SPACE(_FILE.itemsize)


def packed(frames: Sequence[Frame]) -> bytes | None:
    """One packet of at most `MAX_FRAMES` frames; None when they do not fit one."""
    row = _ROWS[len(frames)].pack(len(frames), *map(len, frames))
    packet = b"".join((row, *frames))
    return packet if len(packet) <= MAX_PACKET_BYTES else None


def unpacked(packet: memoryview) -> list[Frame]:
    """The frames of one packet, copied out of it.

    Raises:
        WireError: bad_message or too_large: its row of lengths does not describe it.
    """
    if len(packet) > MAX_PACKET_BYTES:
        raise WireError("too_large", f"packet of more than {MAX_PACKET_BYTES} bytes; send large arrays as frames")
    count = _COUNT.unpack_from(packet)[0] if len(packet) >= _COUNT.size else 0
    if not 0 < count <= MAX_FRAMES or len(packet) < _ROWS[count].size:
        raise WireError("bad_message", f"packet of {len(packet)} bytes and {count} frames; expected 1 to {MAX_FRAMES}")
    _, *lengths = _ROWS[count].unpack_from(packet)
    start = _ROWS[count].size
    if start + sum(lengths) != len(packet):
        raise WireError("bad_message", f"packet of {len(packet)} bytes; its frames take {start + sum(lengths)}")
    frames: list[Frame] = []
    for length in lengths:
        frames.append(bytes(packet[start : start + length]))
        start += length
    return frames


class PacketReader:
    """Takes packets from a socket that does not block. One thread uses it."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._buffer = bytearray(MAX_PACKET_BYTES + 1)  # one more shows what was too large, and cut
        self._view = memoryview(self._buffer)

    def take(self, files: list[int]) -> memoryview:
        """The next packet, valid until the next call; files that came with it are appended to `files`, to be closed.

        Raises:
            BlockingIOError: there is none.
            OSError: the other end is gone (ConnectionResetError when it closed).
        """
        size, beside, _, _ = self._source.recvmsg_into([self._buffer], _FILE_SPACE, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                got = array.array("i")
                got.frombytes(data[: len(data) - len(data) % got.itemsize])
                files.extend(got)
        if not size:
            for file in files:
                os.close(file)
            files.clear()
            raise ConnectionResetError("the other end closed")
        return self._view[:size]


def send_packet(target: socket.socket, packet: bytes, file: int | None = None) -> None:
    """Send at once, with an open file beside it when one is given.

    Raises:
        BlockingIOError: the other end reads too slowly.
        OSError: it is gone.
    """
    if file is None:
        target.send(packet, socket.MSG_NOSIGNAL)
    else:
        socket.send_fds(target, [packet], [file], socket.MSG_NOSIGNAL)
