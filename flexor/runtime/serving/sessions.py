"""Sessions: what the server remembers of each client between requests, and how its episodes ended."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Session:
    """One client's state.

    Attributes:
        task: of the open episode, None between episodes.
        episode: goes up whenever an episode begins or ends.
        scored: step and slack scores of its last scored chunk, until a reply carries them.
        used_s: monotonic clock when it was last used.
    """

    task: str | None = None
    episode: int = 0
    scored: tuple[int, Mapping[str, float]] | None = None
    used_s: float = 0.0


class Sessions:
    """The sessions seen last, at most `capacity`; an open episode that falls out counts as unknown. One thread.

    A session that is not used for `idle_limit_s` falls out too: its client is gone, or would have said something.

    Attributes:
        outcomes: episodes by how they ended.
        forgotten: hears the session's name whenever an open episode counts as unknown.
    """

    def __init__(self, capacity: int, idle_limit_s: float) -> None:
        self._capacity, self._idle_limit_s = capacity, idle_limit_s
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self.outcomes: Counter[str] = Counter()
        self.forgotten: Callable[[str], None] = lambda name: None

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def playing(self) -> bool:
        """Whether an episode is open in any of them."""
        return any(session.task is not None for session in self._sessions.values())

    def touch(self, name: str) -> Session:
        """The session of that name, created when new; the one unused for longest makes room."""
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = Session()
            if len(self._sessions) > self._capacity:
                self._forget_episode(*self._sessions.popitem(last=False))
        self._sessions.move_to_end(name)
        session.used_s = time.monotonic()
        return session

    def begin_episode(self, name: str, task: str) -> None:
        """Open an episode; one that was still open in this session counts as unknown."""
        session = self.touch(name)
        self._forget_episode(name, session)
        session.task, session.scored = task, None
        session.episode += 1

    def end_episode(self, name: str, outcome: str) -> str | None:
        """Close the open episode and return its task; None when there is none (the server may have restarted)."""
        session = self.touch(name)
        task, session.task, session.scored = session.task, None, None
        session.episode += 1
        if task is not None:
            self.outcomes[outcome] += 1
        return task

    def score(self, name: str, episode: int, step: int, scores: Mapping[str, float]) -> None:
        """Keep the scores of the chunk asked at `step` for the session's next reply, unless `episode` is over."""
        session = self.touch(name)
        if session.episode == episode:
            session.scored = (step, scores)

    def take_scored(self, name: str) -> tuple[int, Mapping[str, float]] | None:
        """The kept scores, once."""
        session = self.touch(name)
        scored, session.scored = session.scored, None
        return scored

    def forget_idle(self) -> list[tuple[str, str]]:
        """Let idle sessions fall out; the name and the task of those that left an episode open."""
        left_open: list[tuple[str, str]] = []
        oldest = time.monotonic() - self._idle_limit_s
        while self._sessions and next(iter(self._sessions.values())).used_s < oldest:
            name, session = self._sessions.popitem(last=False)
            self._forget_episode(name, session)
            if session.task is not None:
                left_open.append((name, session.task))
        return left_open

    def _forget_episode(self, name: str, session: Session) -> None:
        if session.task is not None:
            self.outcomes["unknown"] += 1
            self.forgotten(name)
