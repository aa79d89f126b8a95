"""ServerSockets: the sockets of a server, their files, and what wakes its I/O thread."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import zmq

from flexor.runtime.serving.address import AddressError, Addresses, Claim
from flexor.runtime.serving.lane_door import LaneDoor
from flexor.runtime.serving.waker import Waker
from flexor.runtime.serving.wire import MAX_TOTAL_BYTES

# Beyond it libzmq drops the connection; up to it the sender gets a typed error, so it lies above the wire's limit.
MAX_FRAME_BYTES = 2 * MAX_TOTAL_BYTES
RECEIVE_HIGH_WATER = 32  # messages a peer; observations are large, and old ones are of no use
SEND_HIGH_WATER = 10_000  # messages a peer; replies are small, and each is owed
LINGER_MS = 1000


class ServerSockets:
    """Bound in the constructor, then used by the I/O thread alone, which closes them.

    Attributes:
        data, control: ROUTER; replies to a peer that is gone or full raise instead of vanishing.
        events: PUB.
        lanes: the door for clients that share memory, and who came through it.
        waker: ends a wait(), from any thread.
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
            self._poller = zmq.Poller()
            self.lanes = LaneDoor(addresses.lane, self._poller)
        except BaseException:
            self._context.destroy(linger=0)
            self._claim.release()
            raise
        self.waker = Waker()
        for source in (self.waker.fileno(), self.control, self.data):
            self._poller.register(source, zmq.POLLIN)

    def wait(self, timeout_ms: int) -> Collection[object]:
        """What of data, control and the handles of `lanes` has a message; waits at most `timeout_ms` for one, or for a
        wake-up.
        """
        happened = dict(self._poller.poll(timeout_ms))
        if self.waker.fileno() in happened:
            self.waker.clear()
        return happened.keys()

    def close(self) -> None:
        """Send what is still owed for at most LINGER_MS, then leave no file behind."""
        self.lanes.close()
        self._context.destroy(LINGER_MS)
        self.waker.close()
        self._claim.release()

    def _bound(self, kind: int, address: str, private: bool = False) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER)
        socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER)
        # No heartbeats: peers are on this machine, whose kernel tells when one is gone, and libzmq 4.3.5 aborts when a
        # heartbeat is due to a peer that is gone and left more than RECEIVE_HIGH_WATER messages unread.
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
