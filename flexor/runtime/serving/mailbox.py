"""Mailbox: the newest observation of each session, handed from the I/O thread to the engine thread.

Every envelope that enters leaves exactly once, by exactly one door: superseded or refused by `put`, taken by `take`,
outdated by `expire`, or left over by `close`. That is what makes one reply a request a property of the structure.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass

from flexor.runtime.serving.messages import InferRequest
from flexor.runtime.serving.peers import Peer


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request and where its reply goes.

    Attributes:
        peer: who sent it.
        id: the request id to repeat.
        request: what is asked.
        arrived_s: monotonic clock at arrival.
        episode: count of the session's episodes at arrival, so that a score cannot reach the next one.
    """

    peer: Peer
    id: int
    request: InferRequest
    arrived_s: float
    episode: int

    @property
    def deadline_s(self) -> float:
        """Monotonic time after which the request is not worth starting."""
        return self.arrived_s + self.request.budget_ms / 1000.0


class MailboxFull(Exception):
    """As many sessions wait as may; the envelope was not taken."""


class Mailbox:
    """At most one waiting envelope a session, served in the order in which the sessions began to wait."""

    def __init__(self, capacity: int) -> None:
        """`capacity`: how many sessions may wait at the same time."""
        self._capacity = capacity
        self._waiting: dict[str, Envelope] = {}
        self._lock = threading.Lock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # a Condition's wait is five times as much Python
        self._closed = False
        self._busy = True  # until whoever takes has said that it has nothing to do
        self._rest_awaited = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting)

    def put(self, envelope: Envelope) -> Envelope | None:
        """Let `envelope` wait; the envelope that it supersedes comes back.

        The newer one keeps the place in the queue, so that a session which asks often waits no longer than others.

        Raises:
            MailboxFull: too many sessions wait, or the mailbox is closed.
        """
        session = envelope.request.session
        with self._lock:
            older = self._waiting.get(session)
            if self._closed or (older is None and len(self._waiting) >= self._capacity):
                raise MailboxFull
            self._waiting[session] = envelope
        self._ring()
        return older

    def take(self, timeout_s: float) -> Envelope | None:
        """The envelope that has its turn; None when none came within `timeout_s` or the mailbox is closed.

        Outdated ones are not taken; they stay for `expire`.
        """
        until = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            with self._lock:
                for session, envelope in self._waiting.items():
                    if envelope.deadline_s > now:
                        del self._waiting[session]
                        self._busy = True
                        return envelope
                if self._closed or now >= until:
                    return None
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=until - now)

    def rest(self) -> bool:
        """Whoever takes has nothing left to do with what it took; whether somebody waits to hear that (see `idle`)."""
        with self._lock:
            self._busy = False
            awaited, self._rest_awaited = self._rest_awaited, False
            return awaited

    def idle(self) -> bool:
        """Whether nothing waits here and nothing is left to do; if not, `rest` will tell that it is awaited."""
        with self._lock:
            idle = not (self._busy or self._waiting)
            self._rest_awaited = not idle
            return idle

    def expire(self, now: float) -> list[Envelope]:
        """Remove and return the envelopes that waited longer than their budget."""
        with self._lock:
            outdated = [envelope for envelope in self._waiting.values() if envelope.deadline_s <= now]
            for envelope in outdated:
                del self._waiting[envelope.request.session]
            return outdated

    def next_deadline(self) -> float | None:
        """Monotonic time at which `expire` will next return something, None while nothing waits."""
        with self._lock:
            return min((envelope.deadline_s for envelope in self._waiting.values()), default=None)

    def close(self) -> list[Envelope]:
        """Take nothing any more; what still waits comes back."""
        with self._lock:
            self._closed = True
            left = list(self._waiting.values())
            self._waiting.clear()
        self._ring()
        return left

    def _ring(self) -> None:
        """End the wait in take(), or keep it from beginning."""
        if self._bell.empty():
            self._bell.put(None)

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        with self._lock:
            return self._closed
