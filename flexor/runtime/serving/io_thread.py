"""The I/O thread: owns the sockets, answers every request exactly once, and never waits for the engine.

Chunks for clients with shared memory are sent by the engine's thread, under this one's lock: waking it for that costs
more than sending.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from flexor.runtime.adapters.adapter_slots import AdapterSlots, Carried
from flexor.runtime.adapters.canary import Verdict
from flexor.runtime.serving import multipart
from flexor.runtime.serving.adapter_thread import AdaptersEnded, AdapterThread, Announced, Answered, Report
from flexor.runtime.serving.engine_thread import Computed, Ended, Outcome, Ready, Refused, Rested, Scored, Unscored
from flexor.runtime.serving.episode_desk import EpisodeDesk
from flexor.runtime.serving.mailbox import Envelope, Mailbox, MailboxFull
from flexor.runtime.serving.messages import InferRequest, chunk_message
from flexor.runtime.serving.outbox import Outbox
from flexor.runtime.serving.packets import unpacked
from flexor.runtime.serving.peers import LanePeer, Peer, SocketPeer
from flexor.runtime.serving.schema import CONTROL_REQUESTS, DATA_REQUESTS, LANE_REQUESTS, check
from flexor.runtime.serving.server_settings import ServerSettings
from flexor.runtime.serving.server_sockets import ServerSockets
from flexor.runtime.serving.server_stats import ServerStats
from flexor.runtime.serving.sessions import Sessions
from flexor.runtime.serving.shared_images import SLOTS
from flexor.runtime.serving.slack_desk import SlackDesk
from flexor.runtime.serving.wire import Frame, Message, WireError

IDLE_POLL_S = 1.0
MAX_TEXT = 16_000  # characters of a policy's own words; up to four bytes each, they still fit a header


class IoThread(threading.Thread):
    """Polls the data and control sockets and the engine's outcomes until it is stopped or the engine ends.

    Attributes:
        warm: whether the policy is warm.
        ready: set once the policy is warm, or the thread is over.
        failure: what ended the engine before it was asked to, else None.
    """

    def __init__(
        self,
        sockets: ServerSockets,
        mailbox: Mailbox,
        sessions: Sessions,
        slots: AdapterSlots,
        policy: Mapping[str, Any],
        identity: Mapping[str, Any],
        settings: ServerSettings,
        adapters: AdapterThread | None = None,
    ) -> None:
        """`policy` and `identity` (of the server) are what hello tells."""
        super().__init__(name="flexor-io", daemon=True)
        self.ready = threading.Event()
        self.failure: BaseException | None = None
        self._sockets = sockets
        self._mailbox = mailbox
        self._sessions = sessions
        self._policy = dict(policy)
        self._identity = dict(identity)
        self._stop_timeout_s = settings.stop_timeout_s
        self._slots, self._adapters = slots, adapters
        self._counted = ServerStats()
        self._outbox = Outbox(sockets, self._counted)
        self._desk = EpisodeDesk(
            sessions, slots, self._episode_ended, self._outbox.announce, settings.adapters.canary_velocity
        )
        self._slack = SlackDesk(mailbox, sessions, self._outbox.reply)
        self._stop_asked = threading.Event()
        self.warm = False
        self._engine_ended = False
        self._look_s = time.monotonic()
        self._outcomes: deque[Outcome | Report] = deque()
        self._lock = threading.Lock()  # around all of the above but the wait for something to happen
        self._handlers: Mapping[str, Callable[[Peer, Message], Message | None]] = {
            "hello": self._hello,
            "infer": self._infer,
            "episode.begin": lambda peer, message: self._desk.begin(message),
            "episode.end": lambda peer, message: self._desk.end(message),
            **dict.fromkeys([name for name in CONTROL_REQUESTS if name.startswith("adapter.")], self._adapter),
            "learner.slack": self._slack.ask,
            "stats": lambda peer, message: Message("stats", message.id, {"stats": self.stats()}),
            "shutdown": self._shutdown,
            "memory": self._memory,
        }

    def stop(self) -> None:
        """Ask the thread to end; from any thread. What waits is answered, a chunk under way is finished and sent."""
        self._stop_asked.set()
        self._sockets.waker.wake()

    def post(self, outcome: Outcome | Report) -> None:
        """What happened in another thread, which calls this; settled at once, in order, where that is allowed.

        Not where it needs a socket that this thread polls: zmq tells only one of two threads that something came.
        """
        lane = isinstance(outcome, Computed) and isinstance(outcome.envelope.peer, LanePeer)
        if lane or isinstance(outcome, Scored | Unscored):
            with self._lock:
                if lane or not self._outcomes:  # else a score would overtake its own chunk, and ride in its reply
                    self._settle(outcome)
                    return
        self._outcomes.append(outcome)
        self._sockets.waker.wake()

    def run(self) -> None:
        """Serve until stopped, then let the engine end and close the sockets."""
        try:
            while not self._stop_asked.is_set() and not self._engine_ended:
                self._turn(IDLE_POLL_S)
            self._wind_down()
        except BaseException as failure:  # told to whoever waits for the server, which raises it
            self.failure = failure
            self._mailbox.close()
        finally:
            with self._lock:
                self._sockets.close()
            self.ready.set()

    def _wind_down(self) -> None:
        with self._lock:
            self._outbox.announce("stopping", {})
            self._slack.close()
            for envelope in self._mailbox.close():
                self._refuse(envelope, "stopping", "the server is stopping")
        if self._adapters is not None:
            self._adapters.stop()
        deadline = time.monotonic() + self._stop_timeout_s
        while (not self._engine_ended or self._adapters is not None) and (left := deadline - time.monotonic()) > 0:
            self._turn(left)

    def _turn(self, timeout_s: float) -> None:
        """One round: wait for something, then answer what came, what was computed and what is outdated."""
        timeout_s = max(0.0, min(timeout_s, min(self._look_s, self._slack.deadline_s) - time.monotonic()))
        happened = self._sockets.wait(math.ceil(1000.0 * timeout_s))
        with self._lock:
            while self._outcomes:
                self._settle(self._outcomes.popleft())
            if time.monotonic() >= min(self._look_s, self._slack.deadline_s):
                self._look()
            if self._sockets.control in happened:
                self._receive(self._sockets.control, CONTROL_REQUESTS, "the control socket")
            for peer in self._sockets.lanes.ready(happened):
                self._receive_along(peer)
            if self._sockets.data in happened:
                # A client that sends along its lane, and then a frame, means that order: the lanes are emptied first.
                for peer in self._sockets.lanes.peers():
                    self._receive_along(peer, SLOTS)
                self._receive(self._sockets.data, DATA_REQUESTS, "the data socket")

    def _look(self) -> None:
        """Find what has outlived its time. Only when something can have: the engine uses the mailbox, too."""
        now = time.monotonic()
        for envelope in self._mailbox.expire(now):
            text = f"waited {1e3 * (now - envelope.arrived_s):.0f} ms of a budget of {envelope.request.budget_ms:g} ms"
            self._outbox.reply(envelope.peer, Message("expired", envelope.id, {"message": text}))
        self._desk.look()
        self._slack.look()
        deadline = self._mailbox.next_deadline()
        self._look_s = now + IDLE_POLL_S if deadline is None else min(now + IDLE_POLL_S, deadline)

    def _receive(self, socket: zmq.Socket[bytes], schemas: Mapping[str, Any], where: str) -> None:
        """Take one message. What else is there waits for the next turn: the engine must not wait for this thread."""
        identity, *frames = multipart.receive(socket)
        self._take(SocketPeer(socket, bytes(identity)), frames, schemas, where)

    def _receive_along(self, peer: LanePeer, most: int = 1) -> None:
        """Take at most so many messages from a lane."""
        for _ in range(most):
            try:
                packet = peer.receive()
            except OSError:
                self._sockets.lanes.drop(peer)
                return
            if packet is None:
                return
            try:
                frames = unpacked(packet)
            except WireError as error:
                self._counted.received["refused"] += 1
                self._outbox.reply(peer, Message("error", None, {"code": error.code, "message": str(error)}))
                continue
            self._take(peer, frames, LANE_REQUESTS, "a lane")

    def _take(self, peer: Peer, frames: list[Frame], schemas: Mapping[str, Any], where: str) -> None:
        kind = "refused"
        try:
            message = peer.read(frames)
            check(message, schemas, where)
            reply = self._handlers[message.type](peer, message)
            kind = message.type
        except WireError as error:
            reply = Message("error", error.request_id, {"code": error.code, "message": str(error)})
        self._counted.received[kind] += 1
        if reply is not None:
            self._outbox.reply(peer, reply)

    def _settle(self, outcome: Outcome | Report) -> None:
        match outcome:
            case Computed(envelope, chunk, timing_ms):
                self._counted.policy_ms.append(timing_ms["policy"])
                scored = self._sessions.take_scored(envelope.request.session)
                self._outbox.reply(envelope.peer, chunk_message(envelope.id, chunk, timing_ms, scored))
            case Refused(envelope, code, text):
                self._refuse(envelope, code, text)
            case Scored(envelope, scores):
                session, step = envelope.request.session, envelope.request.step
                self._sessions.score(session, envelope.episode, step, scores)
                self._outbox.announce("score", {"session": session, "step": step, "scores": dict(scores)})
            case Unscored(envelope, text):
                told = {"session": envelope.request.session, "step": envelope.request.step}
                self._outbox.announce("unscored", {**told, "message": text[:MAX_TEXT]})
            case Ready():
                self.warm = True
                self.ready.set()
                self._outbox.announce("ready", {"policy": self._policy})
            case Rested():
                self._slack.look()
            case Ended(error):
                self._engine_ended = True
                self.failure = error
            case Answered(peer, reply):
                self._outbox.reply(peer, reply)
            case Announced(told):
                self._outbox.announce("adapter", told)
            case AdaptersEnded():
                self._adapters = None

    def _hello(self, peer: Peer, message: Message) -> Message:
        policy = {**self._policy, "adapter": self._slots.active.adapter}
        return Message("hello", message.id, {"ready": self.warm, "policy": policy, "server": self._identity})

    def _infer(self, peer: Peer, message: Message) -> Message | None:
        assert message.id is not None  # decode lets only an error go without
        request = InferRequest.from_message(message)
        envelope = Envelope(peer, message.id, request, time.monotonic(), self._sessions.touch(request.session).episode)
        if self._mailbox.closed:
            return Message("error", message.id, {"code": "stopping", "message": "the server is stopping"})
        if not self.warm:
            return Message("busy", message.id, {"message": "the policy is warming up; wait until hello says ready"})
        self._look_s = min(self._look_s, envelope.deadline_s)
        try:
            older = self._mailbox.put(envelope)
        except MailboxFull:
            text = f"{len(self._mailbox)} sessions wait already; ask again, or raise max_waiting"
            return Message("busy", message.id, {"message": text})
        if older is not None:
            text = f"step {envelope.request.step} of the same session came before step {older.request.step} was started"
            self._outbox.reply(older.peer, Message("superseded", older.id, {"message": text}))
        return None

    def _episode_ended(self, carried: Carried, success: bool | None, verdict: Verdict | None) -> None:
        if self._adapters is not None:
            self._adapters.episode_ended(carried, success, verdict)

    def _adapter(self, peer: Peer, message: Message) -> Message | None:
        if self._adapters is None:
            text = "this server takes no adapters; start it with --adapters DIR"
            return Message("error", message.id, {"code": "no_adapters", "message": text})
        if message.type == "adapter.list":
            return Message("adapter", message.id, {"told": self._adapters.listing})
        self._adapters.ask(peer, message)
        return None

    def _memory(self, peer: Peer, message: Message) -> Message:
        assert isinstance(peer, LanePeer)  # the schema of every other peer has no memory
        peer.map_memory(message.id)
        return Message("ok", message.id)

    def _shutdown(self, peer: Peer, message: Message) -> Message:
        self._stop_asked.set()
        return Message("ok", message.id)

    def stats(self) -> dict[str, Any]:
        """What was counted, what waits, sessions, lanes with shared memory, episodes by outcome; plain values.

        For this thread, and for others once it is over.
        """
        return {
            **self._counted.to_dict(),
            "ready": self.warm,
            "waiting": len(self._mailbox),
            "sessions": len(self._sessions),
            "lanes": len(self._sockets.lanes),
            "episodes": dict(self._sessions.outcomes),
        }

    def _refuse(self, envelope: Envelope, code: str, text: str) -> None:
        reply = Message("error", envelope.id, {"code": code, "message": text[:MAX_TEXT]})
        self._outbox.reply(envelope.peer, reply)
