"""Real servers on real sockets, and a context whose end a leaked socket would delay: then the test fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from adapter_house import House
from fake_policy import FakePolicy

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings

TERM_TIMEOUT_S = 10.0
TIMEOUT_S = 20.0
FAKE_SERVER = Path(__file__).parents[2] / "fake_policy.py"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket has 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="flexor-test-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def address(folder: Path) -> str:
    """A data address that nobody else uses."""
    return f"ipc://{folder}/policy.sock"


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    """A context for clients and raw sockets."""
    made: zmq.Context[Any] = zmq.Context()
    yield made
    ending = threading.Thread(target=made.term, daemon=True)
    ending.start()
    ending.join(TERM_TIMEOUT_S)
    assert not ending.is_alive(), "a socket of this test was not closed"


@pytest.fixture
def policy() -> FakePolicy:
    return FakePolicy()


@pytest.fixture
def start(address: str) -> Iterator[Callable[..., PolicyServer]]:
    """start(policy, ready=True, **settings) -> PolicyServer, stopped at the end, which fails if a thread stays."""
    servers: list[PolicyServer] = []
    policies: list[FakePolicy] = []

    def begin(policy: FakePolicy, ready: bool = True, **settings: Any) -> PolicyServer:
        server = PolicyServer(policy, address, ServerSettings(**settings))
        server.start()
        servers.append(server)
        policies.append(policy)
        if ready:
            server.wait_ready(TIMEOUT_S)
        return server

    yield begin
    for held in policies:
        for event in (held.warm, held.gate, held.slack):
            event.set()
    for server in servers:
        if not server.wait(0.0):
            server.stop()
    assert [t.name for t in threading.enumerate() if t.name.startswith("flexor-")] == []


@pytest.fixture
def connect(address: str, context: zmq.Context[Any]) -> Iterator[Callable[..., PolicyClient]]:
    """connect(timeout_s=20, greet=False) -> PolicyClient, closed at the end; greeted, what it asks goes out at once."""
    clients: list[PolicyClient] = []

    def make(timeout_s: float = TIMEOUT_S, greet: bool = False) -> PolicyClient:
        clients.append(PolicyClient(address, timeout_s, context=context))
        if greet:
            clients[-1].hello()
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def raw(address: str, context: zmq.Context[Any]) -> Iterator[Callable[..., list[bytes]]]:
    """raw(frames, address=None) -> the frames of the one reply to any frames at all."""
    sockets: dict[str, zmq.Socket[bytes]] = {}

    def exchange(frames: list[bytes], to: str | None = None) -> list[bytes]:
        target = to or address
        if target not in sockets:
            sockets[target] = context.socket(zmq.DEALER)
            sockets[target].setsockopt(zmq.LINGER, 0)
            sockets[target].connect(target)
        sockets[target].send_multipart(frames)
        assert sockets[target].poll(round(1000 * TIMEOUT_S)), "no reply"
        return sockets[target].recv_multipart()

    yield exchange
    for socket in sockets.values():
        socket.close()


@pytest.fixture
def spawn(address: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """spawn(*arguments) -> a process that serves a fake policy at `address` and is ready; killed at the end."""
    children: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(FAKE_SERVER), address, *arguments]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    yield begin
    for child in children:
        child.kill()
        child.wait(TIMEOUT_S)
        assert child.stdout is not None
        child.stdout.close()


@pytest.fixture
def house(micro_bundle: Bundle, folder: Path, context: zmq.Context[Any]) -> Iterator[Callable[..., House]]:
    """house(**settings of adapters) -> House, started; stopped at the end."""
    houses: list[House] = []

    def make(**settings: Any) -> House:
        houses.append(House(micro_bundle, folder, context, **settings))
        return houses[-1].start()

    yield make
    for made in houses:
        made.stop()
