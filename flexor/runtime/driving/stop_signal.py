"""Turns Ctrl-C and a polite kill into a flag, so that a control loop ends between two steps and not inside one."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """While entered, the first SIGINT or SIGTERM sets the flag and the second one raises KeyboardInterrupt.

    Main thread only. Call it to read the flag: `stop()` is True once a signal came.
    """

    def __init__(self) -> None:
        self._caught = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._caught

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._catch) for number in HANDLED}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._caught:
            raise KeyboardInterrupt
        self._caught = True
