"""Channel: requests to one server over a DEALER socket, each of which ends exactly once, in time.

It ends with the server's reply, or with an answer that the channel makes itself: `timeout` when none came within
the request's time, `superseded` when a newer one took its place before it could be sent. The socket reconnects by
itself; a request that was under way when the server went ends in `timeout`.
"""

from __future__ import annotations

import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.serving import multipart
from flexor.runtime.serving.lane import Lane
from flexor.runtime.serving.schema import REPLIES, check
from flexor.runtime.serving.wire import MAX_TOTAL_BYTES, Frame, Message, WireError, decode, encode

SEND_HIGH_WATER = 4  # messages; more would only grow old in the queue
RECONNECT_MS = 50
RECONNECT_MAX_MS = 500


class ServerTimeout(FlexorError):
    """No reply came in time: the server is gone, stuck, or not started yet."""


class ServerRefused(FlexorError):
    """The server answered, but not with what was asked for.

    Attributes:
        kind: superseded, expired, busy or error.
        code: of an error: bad_observation, internal, unknown_key, ...; else the kind.
    """

    def __init__(self, kind: str, code: str, message: str) -> None:
        super().__init__(f"{kind if code == kind else f'{kind} {code}'}: {message}")
        self.kind = kind
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one request: the server's message or one made here, and the time since it was asked."""

    message: Message
    round_trip_ms: float


@dataclass(frozen=True, slots=True)
class _Asked:
    asked_s: float
    deadline_s: float
    in_frames: bool


class Channel:
    """One connection, used by one thread.

    Args:
        address: of a data or control socket.
        timeout_s: what each request gets unless it says otherwise.
        context: for sharing one; else the channel has its own.
        lane_path: of the socket to share memory through, which images then take; None sends frames alone.
    """

    def __init__(
        self, address: str, timeout_s: float, context: zmq.Context[Any] | None = None, lane_path: Path | None = None
    ) -> None:
        if not timeout_s > 0:
            raise FlexorError(f"timeout_s is {timeout_s}; expected more than 0 s")
        self.address = address
        self.timeout_s = timeout_s
        self._context = zmq.Context() if context is None else context
        self._owns_context = context is None
        self._socket = self._context.socket(zmq.DEALER)
        options = {
            zmq.LINGER: 0,
            zmq.SNDHWM: SEND_HIGH_WATER,
            zmq.MAXMSGSIZE: MAX_TOTAL_BYTES,
            zmq.RECONNECT_IVL: RECONNECT_MS,
            zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS,
        }
        for option, value in options.items():
            self._socket.setsockopt(option, value)
        # No heartbeats: the kernel tells when a server on this machine is gone, each request has its own time, and
        # libzmq 4.3.5 aborts when one is due on a connection that it stopped reading because nobody took the replies.
        # What is sent to nobody would be old when it came, so nothing is sent while there is no connection. IMMEDIATE
        # would do that too, but it loses replies that were received when the server closes (seen in libzmq 4.3.5).
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._connected = False
        self._poller = zmq.Poller()
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._socket, zmq.POLLIN)
        self._lane = None if lane_path is None else Lane(lane_path, self._poller)
        self._socket.connect(address)
        self._next_id = 0
        self._asked: dict[int, _Asked] = {}
        self._unsent: OrderedDict[int, tuple[str, list[Frame]]] = OrderedDict()
        self._answers: OrderedDict[int, Answer] = OrderedDict()

    def ask(
        self,
        kind: str,
        fields: Mapping[str, Any] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        timeout_s: float | None = None,
        newest_only: bool = False,
        images: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> int:
        """Send a request, or keep it until the server is there; returns its id at once.

        Args:
            images: arrays that may go along the lane.
            newest_only: it takes the place of an unsent request of the same kind, which ends as `superseded`.

        Raises:
            WireError: the request does not fit the wire.
        """
        now = time.monotonic()
        request_id = self._next_id + 1
        message = Message(kind, request_id, fields or {}, arrays or {})
        along = images is not None and self._along(message, images)
        frames = [] if along else encode(replace(message, arrays={**message.arrays, **(images or {})}))
        self._next_id = request_id
        self._asked[request_id] = _Asked(now, now + (self.timeout_s if timeout_s is None else timeout_s), not along)
        if newest_only:
            for older in [key for key, (unsent, _) in self._unsent.items() if unsent == kind]:
                text = f"a newer {kind} came before the server at {self.address} could be reached"
                self._end(older, Message("superseded", older, {"message": text}))
        # Sending later must not send what the caller has changed since: only a kept request is copied.
        if not along and (self._unsent or not self._send(frames)):
            self._unsent[request_id] = (kind, [bytes(frame) for frame in frames])
        return request_id

    def receive(self, timeout_s: float) -> Answer | None:
        """The next answer to any request, or None when `timeout_s` passed first (0 only looks)."""
        self._pump(timeout_s, lambda: bool(self._answers))
        return self._answers.popitem(last=False)[1] if self._answers else None

    def wait(self, request_id: int) -> Answer:
        """The answer to one request, at the latest when its time is over. Other answers stay for `receive`."""
        if request_id not in self._asked and request_id not in self._answers:
            raise FlexorError(f"request {request_id} is not under way; its answer was taken before")
        self._pump(math.inf, lambda: request_id in self._answers)
        return self._answers.pop(request_id)

    def call(self, kind: str, fields: Mapping[str, Any] | None = None) -> Message:
        """Ask and wait; the reply is neither an error nor a timeout.

        Raises:
            ServerTimeout, ServerRefused: it was.
        """
        answer = self.wait(self.ask(kind, fields))
        return self.accepted(answer).message

    def accepted(self, answer: Answer) -> Answer:
        """The same answer, unless the request was not granted.

        Raises:
            ServerTimeout, ServerRefused: as the answer says.
        """
        message = answer.message
        if message.type == "timeout":
            raise ServerTimeout(message.fields["message"])
        if message.type in ("superseded", "expired", "busy", "error"):
            raise ServerRefused(message.type, message.fields.get("code", message.type), message.fields["message"])
        return answer

    @property
    def shares_memory(self) -> bool:
        """Whether images go through shared memory now."""
        return self._lane is not None and self._lane.granted

    def close(self) -> None:
        """Close the connection; what is under way is given up. Closing twice is allowed."""
        if self._socket.closed:
            return
        if self._lane is not None:
            self._lane.close()
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        if self._owns_context:
            self._context.term()

    def _pump(self, timeout_s: float, done: Callable[[], bool]) -> None:
        """Send and receive until `done`, or until `timeout_s` passed; at least once."""
        now = time.monotonic()
        until = now + timeout_s
        while True:
            first = min((asked.deadline_s for asked in self._asked.values()), default=math.inf)
            self._exchange(0.0 if done() else max(0.0, min(until, first) - now))
            now = time.monotonic()
            for request_id in [key for key, asked in self._asked.items() if asked.deadline_s <= now]:
                waited = now - self._asked[request_id].asked_s
                text = f"no reply from {self.address} within {waited:.3g} s; is a server running there?"
                self._end(request_id, Message("timeout", request_id, {"message": text}))
            if done() or now >= until:
                return

    def _exchange(self, wait_s: float) -> None:
        """Receive what is there or comes within `wait_s`, and send what can now be sent."""
        full = bool(self._unsent) and self._connected
        if full:
            self._poller.register(self._socket, zmq.POLLIN | zmq.POLLOUT)
        happened = dict(self._poller.poll(None if wait_s == math.inf else math.ceil(1000.0 * wait_s)))
        if full:
            self._poller.register(self._socket, zmq.POLLIN)
        if self._monitor in happened:
            self._watch()
        if happened.get(self._socket, 0) & zmq.POLLIN:
            self._drain()
        if self._lane is not None and self._lane.fileno() in happened:
            self._drain_lane(self._lane)
        if self._unsent:
            self._flush()

    def _along(self, message: Message, images: Mapping[str, NDArray[np.uint8]]) -> bool:
        """Whether the lane took the request. It would overtake what is under way in frames: that has to end first."""
        lane = self._lane
        if lane is None or not (lane.granted or self._watch()):
            return False
        return not any(asked.in_frames for asked in self._asked.values()) and lane.send(message, images)

    def _drain_lane(self, lane: Lane) -> None:
        while (reply := lane.receive()) is not None and reply.id is not None:
            self._end(reply.id, reply)
            if not self._asked:
                return
        if reply is not None:
            raise WireError(reply.fields["code"], f"{self.address} could not read us: {reply.fields['message']}")

    def _flush(self) -> None:
        while self._unsent:
            request_id, (_, frames) = next(iter(self._unsent.items()))
            if not self._send(frames):
                return
            del self._unsent[request_id]

    def _watch(self) -> bool:
        """Whether there is a connection now."""
        while multipart.readable(self._monitor):
            event = self._monitor.recv_multipart()[0]
            self._connected = int.from_bytes(event[:2], sys.byteorder) == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if self._lane is not None:
                self._lane.open() if self._connected else self._lane.close()
        return self._connected

    def _send(self, frames: list[Frame]) -> bool:
        if not self._watch():
            return False
        try:
            multipart.send(self._socket, frames)
        except zmq.Again:
            return False
        return True

    def _drain(self) -> None:
        """Take a message that is there, and then what else is there for requests under way."""
        more = True
        while more:
            try:
                reply = decode(multipart.receive(self._socket))
                check(reply, REPLIES, "a client")
            except WireError as error:
                if error.request_id is None:
                    raise
                text = f"the server at {self.address} sent what this client cannot read: {error}"
                reply = Message("error", error.request_id, {"code": error.code, "message": text})
            if reply.id is None:
                raise WireError(reply.fields["code"], f"{self.address} could not read us: {reply.fields['message']}")
            self._end(reply.id, reply)
            more = bool(self._asked) and multipart.readable(self._socket)

    def _end(self, request_id: int, message: Message) -> None:
        """Keep the answer to a request under way; a reply that comes after its time answers nothing any more."""
        asked = self._asked.pop(request_id, None)
        if self._lane is not None and message.type != "timeout":  # the server may still look at the images
            self._lane.ended(request_id)
        self._unsent.pop(request_id, None)
        if asked is not None:
            self._answers[request_id] = Answer(message, 1000.0 * (time.monotonic() - asked.asked_s))

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
