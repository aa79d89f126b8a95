"""Keeps a fixed rate on the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Deadlines one period apart.

    A period that was overrun is counted and the grid starts anew from there: lateness is not made up for by a burst
    of short periods, which on an arm would be a burst of speed.
    """

    def __init__(
        self, period_s: float, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._period_s = period_s
        self._now = now
        self._sleep = sleep
        self._deadline = now() + period_s
        self.overruns = 0

    def start(self) -> None:
        """Begin the first period now."""
        self._deadline = self._now() + self._period_s

    @property
    def remaining_s(self) -> float:
        """Seconds to the end of the present period; not above 0 when it is over."""
        return self._deadline - self._now()

    def finish(self) -> None:
        """Sleep to the end of the present period and begin the next one."""
        remaining = self.remaining_s
        if remaining < 0:
            self.overruns += 1
            self.start()
            return
        if remaining > 0:
            self._sleep(remaining)
        self._deadline += self._period_s
