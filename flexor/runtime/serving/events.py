"""Events: what a server announces to whoever listens, by PUB and SUB. Listening is optional and may miss some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import zmq

from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.wire import MAX_TOTAL_BYTES, Frame, Message, decode, encode

KINDS = ("ready", "score", "unscored", "episode.begin", "episode.end", "adapter", "stopping")


def event_frames(kind: str, number: int, fields: dict[str, Any]) -> list[Frame]:
    """The frames of one event: its kind to subscribe to, then a message whose id counts the server's events."""
    return [kind.encode(), *encode(Message(kind, number, fields))]


class EventReader:
    """Listens to one server. One thread uses it; it survives restarts of the server."""

    def __init__(
        self, address: str | None = None, kinds: Sequence[str] = KINDS, context: zmq.Context[Any] | None = None
    ) -> None:
        """`address` is the server's data address; `context` is for sharing one, else the reader has its own."""
        addresses = Addresses.of(address)
        self._context = zmq.Context() if context is None else context
        self._owns_context = context is None
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_TOTAL_BYTES)
        for kind in kinds:
            self._socket.setsockopt(zmq.SUBSCRIBE, kind.encode())
        self._socket.connect(addresses.events)

    def poll(self, timeout_s: float) -> Message | None:
        """The next event (its type is the kind), or None when `timeout_s` passed first.

        Raises:
            WireError: what came is no event.
        """
        if not self._socket.poll(math.ceil(1000.0 * max(0.0, timeout_s))):
            return None
        return decode(self._socket.recv_multipart()[1:])

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        if self._owns_context:
            self._context.term()

    def __enter__(self) -> EventReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
