"""The one-blob wire: REQ and REP over ipc, the whole observation packed into one msgpack blob, as GR00T's server does.

What the kinds of server have in common is kept (one thread, a map with `endpoint` and `data`, an `error` key in the
reply), not the bytes of any of them: arrays are packed as in packed_arrays, which costs less than an .npy in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq

from flexor.errors import FlexorError
from flexor.runtime.observation import ActionChunk, Observation, Provenance
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.runtime.timing.wires.packed_arrays import pack, unpack

REPLY_MS = 10_000
POLL_MS = 100


@contextmanager
def serve(policy: ServedPolicy, folder: str) -> Iterator[str]:
    """A server with a socket in `folder`; gives its address."""
    address = f"ipc://{folder}/blob.sock"
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(address)
    over = threading.Event()
    answering = threading.Thread(target=_answer, args=(socket, policy, over), daemon=True)
    answering.start()
    try:
        yield address
    finally:
        over.set()
        answering.join()
        context.term()


def _answer(socket: zmq.Socket[bytes], policy: ServedPolicy, over: threading.Event) -> None:
    while not over.is_set():
        if not socket.poll(POLL_MS):
            continue
        try:
            asked = unpack(socket.recv())["data"]
            observation = Observation(asked["images"], asked["state"], asked["prompt"])
            chunk = policy.infer(observation, asked["noise_seed"])
            reply = {"actions": chunk.actions, "timing_ms": dict(chunk.timing_ms)}
        except Exception as error:  # told to whoever asked, as such servers do
            reply = {"error": f"{type(error).__name__}: {error}"}
        socket.send(pack(reply))
    socket.close()


class BlobClient:
    """One REQ socket; a request that is not answered in time makes it useless."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        for option, value in {zmq.LINGER: 0, zmq.RCVTIMEO: REPLY_MS, zmq.SNDTIMEO: REPLY_MS}.items():
            self._socket.setsockopt(option, value)
        self._socket.connect(address)

    def infer(self, observation: Observation, step: int) -> ActionChunk:
        """The chunk for one observation.

        Raises:
            FlexorError: the server answers with an error, or not at all.
        """
        data = {"images": dict(observation.images), "state": observation.state, "prompt": observation.prompt}
        try:
            self._socket.send(pack({"endpoint": "get_action", "data": {**data, "noise_seed": step}}))
            reply = unpack(self._socket.recv())
        except zmq.ZMQError as error:
            raise FlexorError(f"the blob server at {self._address} does not answer: {error}") from error
        if "error" in reply:
            raise FlexorError(f"the blob server at {self._address} failed: {reply['error']}")
        provenance = Provenance("silent", "base", "none", "cpu", "fp32", 10, step)
        return ActionChunk(reply["actions"], provenance, reply["timing_ms"])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._context.term()
