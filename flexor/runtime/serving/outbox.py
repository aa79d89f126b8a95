"""Outbox: sends replies and events of one server, and counts what became of them. The I/O thread's lock guards it."""

from __future__ import annotations

import logging
from typing import Any

from flexor.runtime.serving.events import event_frames
from flexor.runtime.serving.peers import Peer, Undeliverable
from flexor.runtime.serving.server_sockets import ServerSockets
from flexor.runtime.serving.server_stats import ServerStats
from flexor.runtime.serving.wire import Message, WireError, encode

logger = logging.getLogger(__name__)


class Outbox:
    """What a server says.

    Args:
        sockets: events go through.
        counted: replies are counted in.
    """

    def __init__(self, sockets: ServerSockets, counted: ServerStats) -> None:
        self._sockets, self._counted = sockets, counted
        self._events = 0

    def reply(self, peer: Peer, reply: Message) -> None:
        """Send the one reply to a request; an error where it does not fit the wire, counted where it reaches nobody."""
        try:
            try:
                peer.send(encode(reply))
            except WireError as error:  # the policy's own words or numbers do not fit the wire
                logger.exception("reply %s to request %s cannot be sent", reply.type, reply.id)
                reply = Message("error", reply.id, {"code": "internal", "message": f"reply cannot be sent: {error}"})
                peer.send(encode(reply))
        except Undeliverable as error:
            self._counted.undeliverable += 1
            logger.warning("reply %s to request %s could not be delivered: %s", reply.type, reply.id, str(error))
        self._counted.replies[reply.type] += 1

    def announce(self, kind: str, fields: dict[str, Any]) -> None:
        """Publish an event; one that does not fit the wire is logged, and its number is missing."""
        self._events += 1
        try:
            frames = event_frames(kind, self._events, fields)
        except WireError:  # words or numbers of somebody else; serving goes on
            logger.exception("event %d, %s, cannot be published", self._events, kind)
            return
        self._sockets.events.send_multipart(frames)
