"""Turns Ctrl-C, a polite kill and a lost terminal into a flag, so that a control loop ends between two steps."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last one: its terminal is gone, as when ssh breaks


class StopSignal:
    """While entered, the first signal sets the flag, and a second SIGINT or SIGTERM raises KeyboardInterrupt.

    A SIGHUP that is ignored stays so: `nohup` means it. Main thread only. Call it to read the flag: `stop()` is True
    once a signal came.
    """

    def __init__(self) -> None:
        self._caught = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._caught

    def __enter__(self) -> StopSignal:
        deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        handled = [number for number in HANDLED if not (deaf and number == signal.SIGHUP)]
        self._before = {number: signal.signal(number, self._catch) for number in handled}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._caught and number != signal.SIGHUP:  # which both the kernel and a shell may send
            raise KeyboardInterrupt
        self._caught = True
