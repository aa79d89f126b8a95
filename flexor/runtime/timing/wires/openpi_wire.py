"""openpi's wire: an asyncio websocket server and a blocking websocket client on loopback TCP, msgpack both ways.

Written from the protocol, since openpi-client asks for numpy below 2: the server greets with its metadata, every
binary message is one packed map without compression, a text message is the server's traceback, and the reply carries
`server_timing`. One request is under way at a time, computed in the server's event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.observation import ActionChunk, Observation, Provenance
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.runtime.timing.wires.packed_arrays import pack, unpack

HOST = "127.0.0.1"
OPEN_S = 30.0
REPLY_S = 10.0
IMAGE_KEY = "observation/image/"


def check_websockets() -> None:
    """Raise FlexorError, with what to type, where the websockets package is missing."""
    try:
        import websockets.asyncio.server
        import websockets.sync.client  # noqa: F401
    except ImportError as error:
        raise FlexorError(f"openpi's wire needs websockets ({error}); type: pip install 'flexor[bench]'") from error


@contextmanager
def serve(policy: ServedPolicy, folder: str) -> Iterator[str]:
    """A server on a free loopback port (`folder` is not used); gives its address.

    Raises:
        FlexorError: websockets is missing, or the server did not start.
    """
    check_websockets()
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever, daemon=True)
    running.start()
    try:
        opening = asyncio.run_coroutine_threadsafe(_open(policy), loop)
        server = opening.result(OPEN_S)
        yield f"ws://{HOST}:{server.sockets[0].getsockname()[1]}"
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(OPEN_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        running.join(OPEN_S)
        loop.close()


async def _open(policy: ServedPolicy) -> Any:
    from websockets.asyncio.server import serve as listen

    async def answer(connection: Any) -> None:
        await _answer(connection, policy)

    return await listen(answer, HOST, 0, compression=None, max_size=None)


async def _close(server: Any) -> None:
    server.close()
    await server.wait_closed()


async def _answer(connection: Any, policy: ServedPolicy) -> None:
    from websockets.exceptions import ConnectionClosed

    await connection.send(pack(policy.describe()))
    before_s: float | None = None
    try:
        while True:
            asked = unpack(await connection.recv())
            began = time.monotonic()
            images = {k.removeprefix(IMAGE_KEY): v for k, v in asked.items() if k.startswith(IMAGE_KEY)}
            observation = Observation(images, asked["observation/state"], asked["prompt"])
            chunk = policy.infer(observation, asked["noise_seed"])
            timing = {"infer_ms": 1000.0 * (time.monotonic() - began)}
            if before_s is not None:
                timing["prev_total_ms"] = 1000.0 * before_s
            await connection.send(pack({"actions": chunk.actions, "server_timing": timing}))
            before_s = time.monotonic() - began
    except ConnectionClosed:
        return
    except Exception:  # told to whoever asked, as openpi does
        await connection.send(traceback.format_exc())
        await connection.close(1011)


class OpenpiClient:
    """One websocket.

    Raises:
        FlexorError: websockets is missing, or nobody listens at `address`.
    """

    def __init__(self, address: str) -> None:
        check_websockets()
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        self._address = address
        self._open = ExitStack()
        self._failures = (WebSocketException, OSError)  # TimeoutError is one of the latter
        try:
            # As openpi's client connects; a proxy of the environment is not for loopback.
            connecting = connect(address, compression=None, max_size=None, proxy=None, open_timeout=OPEN_S)
            self._connection: Any = self._open.enter_context(connecting)
            self.metadata = unpack(self._connection.recv(OPEN_S))
        except self._failures as error:
            self._open.close()
            raise FlexorError(f"no websocket server answers at {address}: {error}") from error

    def infer(self, observation: Observation, step: int) -> ActionChunk:
        """The chunk for one observation.

        Raises:
            FlexorError: the server answers with an error, or not at all.
        """
        asked = {f"{IMAGE_KEY}{name}": image for name, image in observation.images.items()}
        asked |= {"observation/state": observation.state, "prompt": observation.prompt, "noise_seed": step}
        try:
            self._connection.send(pack(asked))
            reply = self._connection.recv(REPLY_S)
        except self._failures as error:
            raise FlexorError(f"the websocket server at {self._address} does not answer: {error!r}") from error
        if isinstance(reply, str):
            said = (reply.strip().splitlines() or ["nothing"])[-1]
            raise FlexorError(f"the websocket server at {self._address} failed: {said}")
        answer = unpack(reply)
        provenance = Provenance("silent", "base", "none", "cpu", "fp32", 10, step)
        return ActionChunk(answer["actions"], provenance, answer["server_timing"])

    def close(self) -> None:
        """Close the connection."""
        self._open.close()
