"""Waker: ends a poll of the I/O thread, from any thread at any time."""

from __future__ import annotations

import contextlib
import os
import threading

TAKEN_AT_ONCE = 4096  # bytes; what is left of more wake-ups ends the next poll


class Waker:
    """A pipe of the operating system.

    Not an inproc socket of zmq: one of those belongs to one thread, and a thread that makes one while another ends
    the context aborts the process.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._reader

    def wake(self) -> None:
        """Make the waker readable; nothing happens once it is closed."""
        # When its buffer is full of wake-ups already, it is readable without this one.
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.write(self._writer, b"\0")

    def clear(self) -> None:
        """Take the wake-ups; by the thread that polls, and only when it is readable."""
        os.read(self._reader, TAKEN_AT_ONCE)

    def close(self) -> None:
        """Give the pipe back. Closing twice is allowed."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._reader)
                os.close(self._writer)
