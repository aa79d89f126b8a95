"""ServerSockets: the three sockets of a server and the inner one by which other threads wake its I/O thread."""

from __future__ import annotations

import os
from typing import Any

import zmq

from flexor.runtime.address import AddressError, Addresses, Claim
from flexor.runtime.wire import MAX_TOTAL_BYTES

WAKE_ADDRESS = "inproc://wake"
# Beyond it libzmq drops the connection; up to it the sender gets a typed error, so it lies above the wire's limit.
MAX_FRAME_BYTES = 2 * MAX_TOTAL_BYTES
RECEIVE_HIGH_WATER = 32  # messages a peer; observations are large, and old ones are of no use
SEND_HIGH_WATER = 10_000  # messages a peer; replies are small, and each is owed
LINGER_MS = 1000
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 5000


class Waker:
    """Wakes the I/O thread. The thread that made it uses it and closes it: a zmq socket must not change threads."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.connect(WAKE_ADDRESS)

    def __call__(self) -> None:
        try:
            self._socket.send(b"", zmq.NOBLOCK)
        except zmq.Again:
            pass  # a thousand wake-ups are waiting already: it will wake

    def close(self) -> None:
        """Give the socket back; wake-ups sent before still arrive."""
        self._socket.close()


class ServerSockets:
    """Bound in the constructor, then used by the I/O thread alone, which closes them.

    Attributes:
        data, control: ROUTER; replies to a peer that is gone or full raise instead of vanishing.
        events: PUB.
    """

    def __init__(self, addresses: Addresses) -> None:
        """Claim and bind.

        Raises:
            AddressError: a server lives there already, or the address cannot be bound.
        """
        self._claim = Claim(addresses)
        self._claim.acquire()
        self._context: zmq.Context[Any] = zmq.Context()
        try:
            self.control = self._bound(zmq.ROUTER, addresses.control, private=True)
            self.events = self._bound(zmq.PUB, addresses.events)
            self.data = self._bound(zmq.ROUTER, addresses.data)
            self._woken = self._context.socket(zmq.PULL)
            self._woken.bind(WAKE_ADDRESS)
        except BaseException:
            self._context.destroy(linger=0)
            self._claim.release()
            raise
        self._poller = zmq.Poller()
        for socket in (self._woken, self.control, self.data):
            self._poller.register(socket, zmq.POLLIN)

    def wait(self, timeout_ms: int) -> bool:
        """Whether anything happened within `timeout_ms`: a message, or a wake-up (all of which are taken)."""
        happened = dict(self._poller.poll(timeout_ms))
        if self._woken in happened:
            while self._woken.poll(0):
                self._woken.recv()
        return bool(happened)

    def waker(self) -> Waker:
        """What wakes the I/O thread, for the calling thread alone.

        Raises:
            zmq.ZMQError: the sockets are closed.
        """
        return Waker(self._context)

    def close(self) -> None:
        """Send what is still owed for at most LINGER_MS, then leave no file behind."""
        for socket in (self.data, self.control, self.events, self._woken):
            socket.close(LINGER_MS)
        self._context.term()
        self._claim.release()

    def _bound(self, kind: int, address: str, private: bool = False) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER)
        socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # The file is created by bind(); a chmod afterwards would leave it open to others for a moment.
        before = os.umask(0o177) if private else None
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise AddressError(f"cannot listen at {address}: {error}; give another --bind") from error
        finally:
            if before is not None:
                os.umask(before)
        return socket
