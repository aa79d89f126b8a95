"""flexor's own wire: the server and the client that robots use, over ipc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flexor.errors import FlexorError
from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings

READY_S = 30.0
REPLY_S = 10.0
OFFERS = 2  # requests that go as frames while the memory is offered


@contextmanager
def serve(policy: ServedPolicy, folder: str) -> Iterator[str]:
    """A server with a socket in `folder`; gives its address."""
    address = f"ipc://{folder}/flexor.sock"
    with PolicyServer(policy, address, ServerSettings(entropy="never")) as server:
        server.wait_ready(READY_S)
        yield address


class OwnClient:
    """One session of a PolicyClient whose images travel as frames, or in shared memory and never as frames.

    Raises:
        ServerTimeout: nobody answers at `address`.
    """

    def __init__(self, address: str, share_memory: bool = False) -> None:
        self._client = PolicyClient(address, REPLY_S, share_memory=share_memory)
        self._share_memory, self._asked = share_memory, 0
        try:
            self._client.wait_ready(READY_S)
        except BaseException:
            self._client.close()
            raise

    def infer(self, observation: Observation, step: int) -> ActionChunk:
        """The chunk for one observation.

        Raises:
            ServerTimeout, ServerRefused: there is none.
            FlexorError: the server did not take the memory.
        """
        self._asked += 1
        if self._share_memory and not self._client.shares_memory and self._asked > OFFERS:
            raise FlexorError("the server did not take the memory; the log says why")
        return self._client.infer(observation, step, noise_seed=step)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
