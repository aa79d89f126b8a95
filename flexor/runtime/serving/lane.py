"""Lane: a client's short way to a server on this machine: images in shared memory, the rest in one packet.

It is offered when the connection stands and the first image is sent, and used once the server has mapped the memory.
Whatever cannot go along it goes as frames over the connection, in the same order: `send` says no.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq
from numpy.typing import NDArray

from flexor.runtime.serving.packets import PacketReader, packed, send_packet, unpacked
from flexor.runtime.serving.schema import REPLIES, check
from flexor.runtime.serving.shared_images import SHARED, SharedImages, slot_bytes
from flexor.runtime.serving.wire import MAX_TOTAL_BYTES, Message, WireError, decode, encode

MEMORY_ID = 0  # of the offer; requests count from 1

logger = logging.getLogger(__name__)


class Lane:
    """One lane to the server whose door is `path`; used by one thread, whose `poller` it tells what to wait for.

    Attributes:
        granted: whether the server has the memory, so that images go through it.
    """

    def __init__(self, path: Path, poller: zmq.Poller) -> None:
        self.granted = False
        self._path = path
        self._poller = poller
        self._connection: socket.socket | None = None
        self._reader: PacketReader | None = None
        self._memory: SharedImages | None = None
        self._refused = False
        self._said = ""

    def open(self) -> None:
        """Knock at the door; called when the connection stands."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            self._say(f"no lane at {self._path}: {error.strerror}")
            return
        self._connection, self._reader = connection, PacketReader(connection)
        self._poller.register(connection.fileno(), zmq.POLLIN)

    def close(self) -> None:
        """Hang up and let go of the memory."""
        self.granted = False
        if self._connection is not None:
            self._poller.unregister(self._connection.fileno())
            self._connection.close()
            self._connection = self._reader = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def fileno(self) -> int | None:
        """What the poller waits for, None while there is no lane."""
        return None if self._connection is None else self._connection.fileno()

    def send(self, request: Message, images: Mapping[str, NDArray[Any]]) -> bool:
        """Send `request`, and `images` by their name on the wire beside its arrays; False: it has to go as frames.

        Raises:
            WireError: the request does not fit the wire.
        """
        if self._connection is None:
            return False
        # What is no image goes as a frame, and is refused as one.
        memory, needed = self._memory, slot_bytes(images)
        if not 0 < needed <= MAX_TOTAL_BYTES:
            return False
        if memory is None or needed > memory.slot_bytes:
            self._offer(needed)
            return False
        assert request.id is not None
        table = memory.put(request.id, images) if self.granted else None
        if table is None:
            return False
        sent = False
        try:
            shared = Message(request.type, request.id, {**request.fields, SHARED: table}, request.arrays)
            packet = packed(encode(shared))
            sent = packet is not None and self._sent(packet)
        finally:
            if not sent:
                memory.give_back(request.id)
        return sent

    def receive(self) -> Message | None:
        """The next reply to a request; None when there is none, or no lane any more.

        Raises:
            WireError: what came is no reply to anything.
        """
        while self._reader is not None:
            files: list[int] = []
            try:
                packet = self._reader.take(files)
            except BlockingIOError:
                return None
            except OSError as error:
                self._end(f"the server hung up: {error}")
                return None
            try:
                reply = decode(unpacked(packet))
                check(reply, REPLIES, "a client")
            except WireError as error:
                if error.request_id is None:
                    raise
                text = f"the server sent along {self._path} what this client cannot read: {error}"
                reply = Message("error", error.request_id, {"code": error.code, "message": text})
            if reply.id != MEMORY_ID:
                return reply
            self._answered(reply)
        return None

    def ended(self, request_id: int) -> None:
        """The request has ended: its images are not read any more."""
        if self._memory is not None:
            self._memory.give_back(request_id)

    def _offer(self, needed: int) -> None:
        """Send a memory for images of this size, unless an earlier one was refused or has no answer yet."""
        if self._refused or (self._memory is not None and not self.granted):
            return
        self.granted = False
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        try:
            self._memory = SharedImages(needed)
        except (OSError, AttributeError) as error:
            self._refused = True
            self._end(f"this system gives no memory to share: {error}")
            return
        packet = packed(encode(Message("memory", MEMORY_ID)))
        assert packet is not None
        if not self._sent(packet, self._memory.fd):
            self.close()

    def _sent(self, packet: bytes, file: int | None = None) -> bool:
        assert self._connection is not None
        try:
            send_packet(self._connection, packet, file)
        except BlockingIOError:
            return False
        except OSError as error:
            self._end(f"the server hung up: {error}")
            return False
        return True

    def _answered(self, reply: Message) -> None:
        if reply.type == "ok":
            self.granted = True
            self._say("")
        else:
            self._refused = True
            self._end(f"the server refused the memory: {reply.fields.get('message', reply.type)}")

    def _end(self, reason: str) -> None:
        self.close()
        self._say(reason)

    def _say(self, reason: str) -> None:
        """Log why images travel as frames, once for each reason in a row; no reason: they do not."""
        if reason and reason != self._said:
            logger.warning("images travel as frames: %s", reason)
        elif not reason:
            logger.info("images travel in shared memory")
        self._said = reason
