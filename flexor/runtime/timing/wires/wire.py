"""Wire: a server and a client that carry the same request their own way; the table of those that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.runtime.timing.wires import blob_wire, openpi_wire, own_wire


class WireClient(Protocol):
    """One connection, used by one thread."""

    def infer(self, observation: Observation, step: int) -> ActionChunk:
        """The chunk for one observation; FlexorError when there is none in time."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Wire:
    """One way to ask.

    Attributes:
        title: for people.
        serve: serve(policy, folder) is a context that gives the address of a running server.
        connect: a client of that address.
    """

    title: str
    serve: Callable[[ServedPolicy, str], AbstractContextManager[str]]
    connect: Callable[[str], WireClient]


WIRES: Mapping[str, Wire] = {
    "multipart": Wire("flexor: multipart, ipc", own_wire.serve, own_wire.OwnClient),
    "shm": Wire("flexor: images in shared memory", own_wire.serve, lambda at: own_wire.OwnClient(at, True)),
    "blob": Wire("one msgpack blob, REQ/REP, ipc", blob_wire.serve, blob_wire.BlobClient),
    "peer": Wire("openpi: websocket, msgpack, TCP", openpi_wire.serve, openpi_wire.OpenpiClient),
}
