"""ServerSlack: a learner's pause: it ends when the policy server on the same machine has time to spare."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from flexor.errors import FlexorError
from flexor.runtime.serving.control import ServerControl

GRACE_S = 2.0  # that a living server may take to answer beside what it was asked to wait
WORKS = 16  # pieces of work whose median is compared with what was granted for each


class ServerSlack:
    """Call it before every micro-batch; it returns when the server's engine has nothing to do.

    A server that does not answer holds nobody up: the learner goes on, `tell` hears it once, and the server is asked
    again every `retry_s`. There is no robot behind it to be disturbed, and one that comes back is noticed in time.
    Work that takes longer than what is granted for it is told once, and goes on: it cannot be made smaller here.

    Args:
        address: the server's data address; None is the default one.
        tell: hears what a person should know.
        wait_s: how long one question may wait at the server.
        retry_s: how long a server that did not answer is left alone.
        stop: whether the learner is to end; then nobody waits any longer.
    """

    def __init__(
        self,
        address: str | None,
        tell: Callable[[str], None] = lambda text: None,
        wait_s: float = 1.0,
        retry_s: float = 10.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._control = ServerControl(address, wait_s + GRACE_S)
        self._tell, self._wait_s, self._retry_s, self._stop = tell, wait_s, retry_s, stop
        self._away_until: float | None = None
        self._over_ms: deque[float] = deque(maxlen=WORKS)
        self._began_s, self._ms, self._told_long = 0.0, 0, False

    def __call__(self) -> None:
        """Wait for slack."""
        if self._away_until is not None and time.monotonic() < self._away_until:
            return
        self._compare()
        while not self._granted():
            if self._stop():
                return
        self._began_s = time.monotonic()

    def _compare(self) -> None:
        """Tell once that the work since the last grant takes longer than that, as a rule."""
        if not self._ms or self._told_long:
            return
        self._over_ms.append(1000.0 * (time.monotonic() - self._began_s) - self._ms)
        if len(self._over_ms) == WORKS and (over := statistics.median(self._over_ms)) > 0:
            self._told_long = True
            self._tell(
                f"a micro-batch takes {self._ms + over:.0f} ms, and {self._ms} are granted: a request may find the "
                "processor busy; set a smaller batch or fewer draws"
            )

    def _granted(self) -> bool:
        """Whether the learner may go on."""
        try:
            slack = self._control.slack(1000.0 * self._wait_s)
        except FlexorError as error:  # away, stuck, or of a release that knows no slack
            if self._away_until is None:
                self._tell(f"learning goes on without the server's slack: {error}")
            self._away_until, self._ms = time.monotonic() + self._retry_s, 0
            return True
        if self._away_until is not None:
            self._away_until = None
            self._tell("the server answers again: learning in its slack")
        self._ms = slack.ms
        return slack.granted

    def close(self) -> None:
        """Close the connection."""
        self._control.close()

    def __enter__(self) -> ServerSlack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
