"""flexor's own wire: the server and the client that robots use, over ipc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings

READY_S = 30.0
REPLY_S = 10.0


@contextmanager
def serve(policy: ServedPolicy, folder: str) -> Iterator[str]:
    """A server with a socket in `folder`; gives its address."""
    address = f"ipc://{folder}/flexor.sock"
    with PolicyServer(policy, address, ServerSettings(entropy="never")) as server:
        server.wait_ready(READY_S)
        yield address


class OwnClient:
    """One session of a PolicyClient.

    Raises:
        ServerTimeout: nobody answers at `address`.
    """

    def __init__(self, address: str) -> None:
        self._client = PolicyClient(address, REPLY_S)
        try:
            self._client.wait_ready(READY_S)
        except BaseException:
            self._client.close()
            raise

    def infer(self, observation: Observation, step: int) -> ActionChunk:
        """The chunk for one observation.

        Raises:
            ServerTimeout, ServerRefused: there is none.
        """
        return self._client.infer(observation, step, noise_seed=step)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
