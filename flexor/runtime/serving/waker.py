"""Waker: ends a poll of the I/O thread, from any thread at any time."""

from __future__ import annotations

import contextlib
import socket
import threading


class Waker:
    """A pair of connected sockets of the operating system.

    Not an inproc socket of zmq: one of those belongs to one thread, and a thread that makes one while another ends
    the context aborts the process.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Make the waker readable; nothing happens once it is closed."""
        # When its buffer is full of wake-ups already, it is readable without this one.
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                self._writer.send(b"\0")

    def clear(self) -> None:
        """Take the wake-ups, all at once; by the thread that polls."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Give both sockets back."""
        with self._lock:
            self._closed = True
            self._reader.close()
            self._writer.close()
