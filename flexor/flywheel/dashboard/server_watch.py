"""ServerWatch: what one policy server says of itself, for whoever watches; it goes on when the server is away."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Any

import zmq

from flexor.runtime.adapters.audit_log import now
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.channel import ServerRefused, ServerTimeout
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.events import EventReader
from flexor.runtime.serving.wire import WireError

TIMEOUT_S = 1.0
KEPT = 300  # points of latency, scores
TOLD = 60  # events
SCORE = "score"


class ServerWatch:
    """Asks a server's control socket and listens to its events; it gives no orders. One thread uses it.

    Attributes:
        address: the server's data address.
        stats: its last answer; None before the first.
        adapters: its last listing of adapters; None before the first, and where it takes none.
        trouble: why it does not answer; None while it does.
    """

    def __init__(self, address: str | None) -> None:
        """`address` as for ServerControl; None is the default one."""
        self.address = Addresses.of(address).data
        self._context: zmq.Context[Any] = zmq.Context()
        self._control = ServerControl(address, TIMEOUT_S, self._context)
        self._reader = EventReader(address, context=self._context)
        self.stats: dict[str, Any] | None = None
        self.adapters: dict[str, Any] | None = None
        self.trouble: str | None = "not asked yet"
        self._since = now()
        self._latency: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._scores: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._events: deque[dict[str, Any]] = deque(maxlen=TOLD)

    def ask(self) -> None:
        """Ask it how it stands; an answer that does not come, or cannot be read, is its `trouble`."""
        was = self.trouble
        try:
            self.stats = self._control.stats()
            self.trouble = None
            self._latency.append({"at": now(), **self.stats["policy_ms"]})
            self.adapters = self._control.adapters()
        except (ServerTimeout, WireError) as error:
            self.trouble = str(error)
        except ServerRefused as error:
            if error.code == "no_adapters":
                self.adapters = None
            else:
                self.trouble = str(error)
        if (was is None) != (self.trouble is None):
            self._since = now()

    def listen(self, timeout_s: float) -> None:
        """Take its events for so long."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            try:
                event = self._reader.poll(left)
            except WireError as error:
                self._events.append({"at": now(), "kind": "unreadable", "message": str(error)})
                continue
            if event is None:
                continue
            kept = self._scores if event.type == SCORE else self._events
            kept.append({"at": now(), "kind": event.type, **event.fields})

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "address": self.address,
            "away": self.trouble is not None,
            "trouble": self.trouble,
            "since": self._since,
            "stats": self.stats,
            "latency": list(self._latency),
            "scores": list(self._scores),
            "events": list(self._events),
        }

    def close(self) -> None:
        """Leave it alone."""
        self._control.close()
        self._reader.close()
        self._context.term()

    def __enter__(self) -> ServerWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
