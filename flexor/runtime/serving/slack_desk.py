"""SlackDesk: where a learner asks for time to work in, and is answered when the engine has nothing to do.

A grant is an answer and nothing else: the server remembers none, waits for none to end, and answers the next request
whether a learner works or not. Whoever asks before every piece of work is therefore held up by a request that is
computed or waits, and by nothing that a learner did or left undone.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from flexor.runtime.serving.mailbox import Mailbox
from flexor.runtime.serving.peers import Peer
from flexor.runtime.serving.sessions import Sessions
from flexor.runtime.serving.wire import Message

IN_EPISODE_MS = 100
"""Granted while an episode is open: a robot asks a few times a second, and each answer should find an idle core."""
BETWEEN_EPISODES_MS = 1000
"""Granted while none is: nobody is expected to ask soon."""
MOST_WAITING = 8
"""Further ones are told at once that there is none."""


@dataclass(frozen=True, slots=True)
class _Asker:
    peer: Peer
    id: int | None
    deadline_s: float


class SlackDesk:
    """The I/O thread's.

    Args:
        mailbox: that knows whether the engine has something to do.
        sessions: that know whether an episode is open.
        reply: sends an answer.
    """

    def __init__(self, mailbox: Mailbox, sessions: Sessions, reply: Callable[[Peer, Message], None]) -> None:
        self._mailbox, self._sessions, self._reply = mailbox, sessions, reply
        self._waiting: deque[_Asker] = deque()

    def ask(self, peer: Peer, message: Message) -> Message | None:
        """Answer learner.slack now, or later (None)."""
        if self._mailbox.idle():
            return self._answer(message.id, True)
        if len(self._waiting) >= MOST_WAITING:
            return self._answer(message.id, False)
        until = time.monotonic() + message.fields["wait_ms"] / 1000.0
        self._waiting.append(_Asker(peer, message.id, until))
        return None

    def look(self) -> None:
        """Answer everyone if the engine has nothing to do, else those who have waited long enough."""
        if not self._waiting:
            return
        idle, now = self._mailbox.idle(), time.monotonic()
        waiting, self._waiting = self._waiting, deque()
        for asker in waiting:
            if idle or asker.deadline_s <= now:
                self._reply(asker.peer, self._answer(asker.id, idle))
            else:
                self._waiting.append(asker)

    @property
    def deadline_s(self) -> float:
        """Monotonic time at which the next one has waited long enough."""
        return min((asker.deadline_s for asker in self._waiting), default=math.inf)

    def close(self) -> None:
        """Grant nothing any more."""
        while self._waiting:
            asker = self._waiting.popleft()
            self._reply(asker.peer, self._answer(asker.id, False))

    def _answer(self, request_id: int | None, granted: bool) -> Message:
        ms = 0 if not granted else IN_EPISODE_MS if self._sessions.playing else BETWEEN_EPISODES_MS
        return Message("slack", request_id, {"granted": granted, "ms": ms})
