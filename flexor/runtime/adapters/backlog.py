"""Backlog: what was decided and is still to be done because the disk refused, in the order in which it was decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Backlog:
    """One thread uses it.

    An action that the disk refused is done again from its beginning: it has to know what it is about, and to do nothing
    where that no longer stands. An action may add others; they are done after it.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._working = False

    def add(self, action: Callable[[], object]) -> None:
        """Have it done after all that waits, the next time that there is work()."""
        self._waiting.append(action)

    def do(self, action: Callable[[], object]) -> None:
        """add() it, then work()."""
        self.add(action)
        self.work()

    def work(self) -> None:
        """Do what waits. Inside an action, nothing: who works already comes to the rest.

        Raises:
            OSError: the disk refuses an action, which waits for the next time together with those after it.
            Exception: of the first action that failed otherwise: it is dropped, and those after it were done.
        """
        if self._working:
            return
        failure: Exception | None = None
        self._working = True
        try:
            while self._waiting:
                try:
                    self._waiting[0]()
                except OSError:
                    raise
                except Exception as error:
                    failure = failure or error
                self._waiting.popleft()
        finally:
            self._working = False
        if failure is not None:
            raise failure
