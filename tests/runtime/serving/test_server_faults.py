"""A server process and what its clients may do to it at random moments: every request gets its one reply."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from asking_client import AskingClient, observation
from fault_tally import Tally
from hypothesis import HealthCheck, given, seed, settings
from point_server import PointServer
from telling_process import PATIENCE_S
from wire_messages import MESSAGES, frames_of, mutate

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.wire import PROTOCOL_VERSION, Message, decode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


VERSIONS = (0, PROTOCOL_VERSION + 1, 2**64 - 1, "1", None, 1.5, [1])


@pytest.fixture
def server() -> Iterator[PointServer]:
    with PointServer(0.002) as server:
        yield server


def count(tally: Tally, *clients: AskingClient) -> None:
    """Every request of clients that were not killed, and how often each was answered."""
    for number, client in enumerate(clients):
        asked, ended = client.told("ask"), client.told("end")
        tally.count_replies(((number, line["id"]) for line in asked), ((number, line["id"]) for line in ended))
        assert not [line for line in ended if line["type"] == "timeout"]


@pytest.mark.fault(
    "20 clients at once, some requests stale or bad",
    "each gets its one reply: chunk, superseded, expired, busy or error",
)
def test_twenty_clients(tally: Tally, server: PointServer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(AskingClient(server.address, 60, tally.attempt * 20 + n)) for n in range(20)]
        assert [client.wait() for client in clients] == [0] * 20
    count(tally, *clients)
    stats = server.settled()
    answered = sum(stats["replies"].get(kind, 0) for kind in ("chunk", "superseded", "expired", "busy", "error"))
    assert answered == 20 * 60
    assert stats["undeliverable"] == 0


@pytest.mark.fault(
    "clients killed (kill -9) with requests under way",
    "the server is not held up, and the others get all their replies",
)
def test_clients_killed(tally: Tally, server: PointServer) -> None:
    with ExitStack() as stack:
        stays, *gone = [stack.enter_context(AskingClient(server.address, n, 0)) for n in (600, 10**6, 10**6, 10**6)]
        for client in gone:
            client.wait_for("ask")
            time.sleep(tally.chance.uniform(0.0, 0.3))
            client.signal(signal.SIGKILL)
        assert stays.wait() == 0
    count(tally, stays)
    assert sum(len(client.told("ask")) for client in gone) >= 3
    server.settled()  # as many replies as requests, those to nobody among them


@pytest.mark.fault(
    "a client frozen while it asks (a slow reader), then it goes on",
    "the others get their replies meanwhile; the slow one gets all of its own when it reads again",
)
def test_client_frozen(tally: Tally, server: PointServer) -> None:
    with AskingClient(server.address, 400, tally.attempt) as slow, AskingClient(server.address, 200, 1) as other:
        slow.wait_for("ask", 1 + tally.chance.randrange(200))
        slow.signal(signal.SIGSTOP)
        assert other.wait() == 0
        slow.signal(signal.SIGCONT)
        assert slow.wait() == 0
    count(tally, slow, other)
    assert server.settled()["undeliverable"] == 0


@pytest.mark.fault(
    "truncated, mutated, oversized messages, unknown protocol versions",
    "each gets one reply, mostly a typed error; good requests in between are answered with chunks",
)
def test_broken_messages(tally: Tally, server: PointServer) -> None:
    arrivals: list[list[bytes]] = []

    @seed(tally.attempt)
    @settings(max_examples=150, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(MESSAGES)
    def collect(message: Message) -> None:
        frames = [bytearray(frame) for frame in frames_of(message)]
        for _ in range(tally.chance.randint(1, 4)):
            mutate(frames, tally.chance)
        if frames:
            arrivals.append([bytes(frame) for frame in frames])

    collect()
    for version in VERSIONS:
        arrivals.append([msgpack.packb({"v": version, "type": "hello", "id": 7, "arrays": []}) or b""])
    tally.chance.shuffle(arrivals)
    with zmq.Context() as context, context.socket(zmq.DEALER) as raw, PolicyClient(server.address, PATIENCE_S) as good:
        raw.setsockopt(zmq.LINGER, 0)
        raw.connect(server.address)
        replies = []
        for number, frames in enumerate(arrivals):
            raw.send_multipart(frames)
            assert raw.poll(round(1000 * PATIENCE_S)), frames
            replies.append(decode(raw.recv_multipart()))
            if number % 25 == 0:
                assert good.infer(observation()).actions.shape == (10, 7)
                tally.count_replies([("good", number)], [("good", number)])
        assert not raw.poll(50), "a second reply"
    tally.count_replies(range(len(arrivals)), range(len(replies)))
    codes = [reply.fields["code"] for reply in replies if reply.type == "error" and reply.id == 7]
    assert codes.count("bad_version") == len(VERSIONS)
    server.settled()


@pytest.fixture(scope="module")
def served_bundle(micro_bundle: Bundle) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`flexor serve` on a real bundle, and its address."""
    folder = tempfile.TemporaryDirectory(prefix="fx")
    address = f"ipc://{folder.name}/policy.sock"
    command = [sys.executable, "-m", "flexor", "serve", str(micro_bundle.path), "--bind", address]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline().startswith("ready")
    yield server, address
    server.terminate()
    assert server.wait(PATIENCE_S) == 0
    server.stdout.close()
    folder.cleanup()


PROMPTS: dict[str, tuple[Callable[[Any], str], str]] = {
    "good": (lambda chance: "put the red cube on the plate", "chunk"),
    "empty": (lambda chance: "", "bad_observation"),
    "blank": (lambda chance: " \t\n"[: chance.randint(1, 3)] * chance.randint(1, 9), "bad_observation"),
    "too long for the model": (lambda chance: "cube " * chance.randint(60, 3000), "bad_observation"),
    "too long for the wire": (lambda chance: "x" * chance.randint(16_385, 60_000), "bad_value"),
    "too long for a header": (lambda chance: "x" * chance.randint(65_536, 200_000), "too_large"),
    "letters that no tokenizer has": (lambda chance: chr(chance.randrange(0x3000, 0xD7FF)) * 3, "chunk"),
}


@pytest.mark.fault(
    "empty, blank and over-long prompts, to a real policy",
    "a typed error each, from the client where the wire's limit is passed; the next good prompt gets its chunk",
)
def test_prompts(tally: Tally, served_bundle: tuple[subprocess.Popen[str], str], micro_bundle: Bundle) -> None:
    server, address = served_bundle
    images = {camera: np.full((32, 32, 3), 90, np.uint8) for camera in micro_bundle.cameras}
    state = np.zeros(micro_bundle.config.state_dim, np.float32)
    order = list(PROMPTS) * 3
    tally.chance.shuffle(order)
    with PolicyClient(address, PATIENCE_S) as client:
        client.wait_ready(PATIENCE_S)
        asked, ended = [], []
        for name in order:
            make, expected = PROMPTS[name]
            try:
                asked.append(client.ask(Observation(images, state, make(tally.chance)), step=0))
            except Exception as error:
                assert getattr(error, "code", "") == expected == "too_large", error
                continue
            reply = client.poll(PATIENCE_S)
            assert reply is not None
            assert reply.code == expected, (name, reply.message)
            ended.append(reply.id)
        assert client.poll(0.05) is None
    tally.count_replies(asked, ended)
    assert server.poll() is None
