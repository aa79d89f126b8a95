"""Peers: whoever sent a request, and the way back: over a ROUTER socket, or along a lane with shared memory."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import zmq

from flexor.runtime.serving import multipart
from flexor.runtime.serving.packets import MAX_PACKET_BYTES, PacketReader, packed, send_packet
from flexor.runtime.serving.shared_images import SHARED, MappedImages
from flexor.runtime.serving.wire import Frame, Message, WireError, decode


class Undeliverable(Exception):
    """The peer is gone or does not read; the server owes it nothing more."""


class Peer(Protocol):
    """The sender of a message."""

    def read(self, frames: Sequence[Frame]) -> Message:
        """The message in what it sent; WireError when it is none."""
        ...

    def send(self, frames: Sequence[Frame]) -> None:
        """Send it a reply; Undeliverable when that cannot be done at once."""
        ...


@dataclass(frozen=True, slots=True)
class SocketPeer:
    """A peer of a ROUTER socket; for the I/O thread alone."""

    socket: zmq.Socket[bytes]
    identity: bytes

    def read(self, frames: Sequence[Frame]) -> Message:
        """Arrays are views of the frames."""
        return decode(frames)

    def send(self, frames: Sequence[Frame]) -> None:
        """zmq keeps what the peer is slow to take."""
        try:
            multipart.send(self.socket, [self.identity, *frames])
        except zmq.ZMQError as error:
            raise Undeliverable(str(error)) from error


class LanePeer:
    """A peer that is connected by a Unix socket; a lock must keep the threads that use it apart.

    Attributes:
        fd: what to poll for reading, for as long as the peer is not closed.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        # The kernel doubles what it is given: room for four replies of the greatest size, and a client that leaves its
        # slots alone has no more under way.
        room = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        self.fd = connection.fileno()
        self._connection = connection
        self._reader = PacketReader(connection)
        self._files: list[int] = []
        self._memory: MappedImages | None = None

    def receive(self) -> memoryview | None:
        """The next packet, valid until the next call; None when there is none.

        Raises:
            OSError: the peer is gone.
        """
        self._let_go()
        try:
            return self._reader.take(self._files)
        except BlockingIOError:
            return None

    def read(self, frames: Sequence[Frame]) -> Message:
        """Images that lie in the peer's memory are views of it."""
        message = decode(frames)
        if SHARED not in message.fields:
            return message
        if self._memory is None:
            text = f"{SHARED} without a memory; send one first, with a message of type memory"
            raise WireError("bad_memory", text, message.id)
        return self._memory.complete(message)

    def map_memory(self, request_id: int | None) -> None:
        """Map the file that came with the last packet, in the place of an earlier one.

        Raises:
            WireError: bad_memory: there was not one file, or not one that can be trusted.
        """
        if len(self._files) != 1:
            raise WireError("bad_memory", f"{len(self._files)} files came with memory; expected one", request_id)
        self._memory = MappedImages(self._files[0], request_id)

    def send(self, frames: Sequence[Frame]) -> None:
        """At once or never.

        Raises:
            WireError: too_large: what a ROUTER socket would carry, and a packet does not.
            Undeliverable: the peer is gone, or leaves its replies unread.
        """
        packet = packed(frames)
        if packet is None:
            size = sum(map(len, frames))
            text = f"a lane takes {MAX_PACKET_BYTES} bytes, not {size}; ask without shared memory"
            raise WireError("too_large", text)
        try:
            send_packet(self._connection, packet)
        except OSError as error:
            with contextlib.suppress(OSError):  # it missed a reply, so it is told that the lane is over
                self._connection.shutdown(socket.SHUT_RDWR)
            raise Undeliverable(str(error)) from error

    def close(self) -> None:
        """Let go of the connection, and of the memory once no array is left in it."""
        self._let_go()
        self._memory = None
        self._connection.close()

    def _let_go(self) -> None:
        for file in self._files:
            os.close(file)
        self._files.clear()
