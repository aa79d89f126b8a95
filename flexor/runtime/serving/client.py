"""PolicyClient: asks a policy server for action chunks. Needs numpy, pyzmq and msgpack, and no thread of its own."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.channel import Answer, Channel, ServerRefused, ServerTimeout
from flexor.runtime.serving.messages import InferRequest, chunk_from
from flexor.runtime.serving.wire import WireError

__all__ = ["PolicyClient", "Reply", "ServerRefused", "ServerTimeout"]

READY_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of one `ask`.

    Attributes:
        id: what `ask` returned.
        type: chunk, superseded, expired, busy, error, or timeout (made by the client).
        step: the step that was asked with.
        chunk: of type chunk, else None; its arrays are read-only.
        scored_step: the earlier step of this session whose slack scores (ace_bits, gauss_nats) ride in chunk.scores.
        code: of an error: bad_observation, engine, internal, stopping, ...; else the type.
        message: why there is no chunk; empty with one.
        round_trip_ms: from `ask` to taking the reply from the socket.
    """

    id: int
    type: str
    step: int
    chunk: ActionChunk | None
    scored_step: int | None
    code: str
    message: str
    round_trip_ms: float


class PolicyClient:
    """One session with one server. One thread uses it.

    Every `ask` ends in exactly one Reply, within its time, whatever happens to the server; the connection comes
    back by itself when the server does.

    Attributes:
        velocity_scale: part of its velocity limit that the robot is to keep to in the open episode; below 1 while an
            adapter is on trial.

    Args:
        address: the server's data address; None is the default one.
        timeout_s: how long each request may take before it ends as `timeout`.
        session: name of this session; a new one each time by default.
        context: for sharing one; else the client has its own.
        share_memory: let images go through memory that server and client share, where both are on this machine and
            use ipc; else, and until the server has taken the memory, they go as frames.
    """

    def __init__(
        self,
        address: str | None = None,
        timeout_s: float = 5.0,
        session: str | None = None,
        context: zmq.Context[Any] | None = None,
        share_memory: bool = True,
    ) -> None:
        self.session = uuid.uuid4().hex if session is None else session
        addresses = Addresses.of(address)
        self._channel = Channel(addresses.data, timeout_s, context, addresses.lane if share_memory else None)
        self._steps: dict[int, int] = {}
        self.velocity_scale = 1.0

    @property
    def shares_memory(self) -> bool:
        """Whether images go through shared memory now; else they go as frames, and the log says why."""
        return self._channel.shares_memory

    def hello(self) -> dict[str, Any]:
        """What is served: bundle, hash, cameras, state_dim, action_dim, horizon, replan, rtc_max_delay, hz, render,
        flow_steps, noise_scale, engine, provider, precision; `ready`, and `server` (id, pid, version).

        Raises:
            ServerTimeout, ServerRefused: there is no such answer.
        """
        fields = self._channel.call("hello").fields
        return {**fields["policy"], "ready": fields["ready"], "server": fields["server"]}

    def wait_ready(self, timeout_s: float) -> dict[str, Any]:
        """The first hello that says ready.

        Raises:
            ServerTimeout: no server, or not warm, after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        last = "no answer"
        while (left := deadline - time.monotonic()) > 0:
            answer = self._channel.wait(self._channel.ask("hello", timeout_s=min(left, self._channel.timeout_s)))
            if answer.message.type != "timeout":
                fields = self._channel.accepted(answer).message.fields
                if fields["ready"]:
                    return {**fields["policy"], "ready": True, "server": fields["server"]}
                last = "it is warming up"
                time.sleep(min(READY_POLL_S, left))
        raise ServerTimeout(f"the server at {self._channel.address} is not ready after {timeout_s:g} s: {last}")

    def ask(
        self,
        observation: Observation,
        step: int,
        delay_steps: int = 0,
        action_prefix: NDArray[np.float32] | None = None,
        budget_ms: float | None = None,
        noise_seed: int | None = None,
    ) -> int:
        """Ask for a chunk and return the request's id at once; the reply comes from `poll`.

        While there is no connection the request is kept, the newest alone, and `poll` sends it when there is one.

        Args:
            observation: images uint8 [h, w, 3] by camera, state float32 [S], prompt.
            step: the control step it was taken at.
            delay_steps: control steps that will be played before the chunk is there.
            action_prefix: float32 [delay_steps, A] in robot units, the actions that will be played until then.
            budget_ms: how long the request is worth starting after it arrived; None is the client's timeout.
            noise_seed: None lets the server choose.

        Raises:
            WireError: an array has a dtype that the wire does not carry, or the message is too large.
        """
        budget = 1000.0 * self._channel.timeout_s if budget_ms is None else budget_ms
        request = InferRequest(self.session, step, budget, delay_steps, noise_seed, observation, action_prefix)
        request_id = self._channel.ask(
            "infer", request.fields(), request.small_arrays(), newest_only=True, images=request.images()
        )
        self._steps[request_id] = step
        return request_id

    def poll(self, timeout_s: float) -> Reply | None:
        """The next reply to any `ask`, or None when `timeout_s` passed first; 0 only looks."""
        answer = self._channel.receive(timeout_s)
        return None if answer is None else self._reply(answer)

    def infer(
        self,
        observation: Observation,
        step: int = 0,
        delay_steps: int = 0,
        action_prefix: NDArray[np.float32] | None = None,
        budget_ms: float | None = None,
        noise_seed: int | None = None,
    ) -> ActionChunk:
        """`ask`, then wait for the chunk. Replies to earlier requests stay for `poll`.

        Raises:
            ServerTimeout: no reply within the client's timeout.
            ServerRefused: superseded, expired, busy or error.
        """
        answer = self._channel.wait(self.ask(observation, step, delay_steps, action_prefix, budget_ms, noise_seed))
        reply = self._reply(answer)
        if reply.chunk is None:
            self._channel.accepted(answer)
            raise ServerRefused(reply.type, reply.code, reply.message)
        return reply.chunk

    def begin_episode(self, task: str, seed: int | None = None) -> str:
        """Open an episode of `task` on the server and return the id of the adapter it is bound to.

        Raises:
            ServerTimeout, ServerRefused: it was not opened.
        """
        reply = self._channel.call("episode.begin", {"session": self.session, "task": task, "seed": seed})
        self.velocity_scale = float(reply.fields.get("velocity_scale") or 1.0)
        return reply.fields.get("adapter") or "base"

    def end_episode(self, outcome: str, label: str | None = None, source: str = "sim") -> None:
        """Tell the server how the episode ended.

        Args:
            outcome: success, failure, abort or unknown.
            label: what went wrong, in a word.
            source: who says so: sim, operator or classifier.

        Raises:
            ServerTimeout, ServerRefused: it was not noted; code no_episode after a restart of the server.
        """
        told = {"session": self.session, "outcome": outcome, "label": label, "source": source}
        self._channel.call("episode.end", told)

    def close(self) -> None:
        """Close the connection; what is under way is given up."""
        self._channel.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _reply(self, answer: Answer) -> Reply:
        message = answer.message
        assert message.id is not None  # the channel matched it to a request
        step = self._steps.pop(message.id, 0)
        chunk, scored_step, kind = None, None, message.type
        code, text = message.fields.get("code", kind), message.fields.get("message", "")
        if kind == "chunk":
            try:
                chunk, scored_step = chunk_from(message)
            except WireError as error:
                kind, code, text = "error", error.code, str(error)
        return Reply(message.id, kind, step, chunk, scored_step, code, text, answer.round_trip_ms)
