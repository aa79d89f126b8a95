"""The client: every request ends once and in time, with a server, without one, and across its death."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
from fake_policy import FakePolicy, observation

from flexor.errors import FlexorError
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.channel import Channel
from flexor.runtime.serving.client import PolicyClient, ServerRefused, ServerTimeout
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.server import PolicyServer

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
Spawn = Callable[..., subprocess.Popen[str]]

ONLY_WHAT_A_CLIENT_NEEDS = """
import sys
import importlib.abc

ALLOWED = {"flexor", "numpy", "zmq", "msgpack"}
outside = set()

class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names and "site-packages" in str(sys.path):
            outside.add(top)
            raise ModuleNotFoundError(f"{top} is not for a client", name=name)
        return None

sys.meta_path.insert(0, Guard())
import flexor.runtime.serving.client, flexor.runtime.serving.control, flexor.runtime.serving.events
heavy = {"torch", "mujoco", "pydantic", "tokenizers", "omegaconf", "PIL", "rich", "typer"} & set(sys.modules)
assert not heavy, heavy
client = flexor.runtime.serving.client.PolicyClient(sys.argv[1], timeout_s=20.0)
print(client.hello()["bundle"])
client.close()
"""


def test_a_client_needs_only_numpy_pyzmq_and_msgpack(policy: FakePolicy, start: Start, address: str) -> None:
    start(policy)
    command = [sys.executable, "-c", ONLY_WHAT_A_CLIENT_NEEDS, address]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "fake\n"


def test_without_a_server_every_call_ends_as_a_timeout(connect: Connect, address: str) -> None:
    client = connect(timeout_s=0.1)
    for call in (client.hello, lambda: client.infer(observation()), lambda: client.begin_episode("stack")):
        with pytest.raises(ServerTimeout, match="is a server running there"):
            call()
    with pytest.raises(ServerTimeout, match="not ready after"):
        client.wait_ready(0.2)


def test_without_a_server_asking_returns_and_only_the_newest_is_kept(connect: Connect) -> None:
    client = connect(timeout_s=0.2)
    asked = [client.ask(observation(), step=step) for step in range(4)]
    replies = [client.poll(20.0) for _ in asked]
    assert [(r.id, r.type, r.step) for r in replies if r is not None] == [
        *((request, "superseded", step) for step, request in enumerate(asked[:3])),
        (asked[3], "timeout", 3),
    ]
    assert client.poll(0.0) is None


def test_an_observation_kept_for_a_late_server_is_the_one_that_was_asked_with(
    policy: FakePolicy, start: Start, connect: Connect
) -> None:
    client = connect()
    seen = observation(4.0)
    client.ask(seen, step=1)
    seen.state[0] = 99.0
    start(policy)
    reply = client.poll(20.0)
    assert reply is not None
    assert reply.chunk is not None
    assert reply.chunk.actions[0, 0] == 4.0


def test_polling_without_a_reply_returns_nothing(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy)
    client = connect()
    assert client.poll(0.0) is None
    assert client.poll(0.01) is None


def test_a_reply_that_comes_after_its_time_answers_nothing(policy: FakePolicy, start: Start, connect: Connect) -> None:
    policy.gate.clear()
    start(policy)
    client = connect(timeout_s=2.0, greet=True)
    asked = client.ask(observation(), step=3)
    reply = client.poll(20.0)
    assert reply is not None
    assert (reply.id, reply.type, reply.step) == (asked, "timeout", 3)
    policy.gate.set()
    patient = connect()
    patient.infer(observation())
    assert client.poll(0.1) is None


def test_replies_to_earlier_requests_wait_for_poll(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy)
    client = connect()
    early = client.ask(observation(1.0), step=1)
    assert client.hello()["ready"]
    assert client.begin_episode("stack") == "base"
    reply = client.poll(20.0)
    assert reply is not None
    assert (reply.id, reply.type) == (early, "chunk")


def test_a_killed_and_restarted_server_is_found_again_and_the_pending_request_times_out(
    spawn: Spawn, connect: Connect
) -> None:
    first = spawn("--held")
    client = connect(timeout_s=5.0)
    before = client.wait_ready(20.0)["server"]
    client.begin_episode("stack")
    pending = client.ask(observation(), step=8)
    client.hello()  # the observation has arrived by now
    first.kill()
    first.wait(20.0)
    spawn()
    reply = client.poll(20.0)
    assert reply is not None
    assert (reply.id, reply.type, reply.step) == (pending, "timeout", 8)
    assert client.wait_ready(20.0)["server"]["id"] != before["id"]
    assert client.infer(observation(6.0)).actions[0, 0] == 6.0
    with pytest.raises(ServerRefused, match="a restarted server forgets"):
        client.end_episode("success")


def test_a_polite_kill_leaves_no_file(spawn: Spawn, connect: Connect, folder: Path) -> None:
    server = spawn()
    connect().infer(observation())
    server.terminate()
    assert server.wait(20.0) == 0
    assert list(folder.iterdir()) == []


def test_the_last_reply_of_a_stopping_server_is_not_lost(address: str, context: zmq.Context[Any]) -> None:
    for _ in range(30):
        with PolicyServer(FakePolicy(), address), ServerControl(address, 20.0, context) as control:
            control.shutdown()


def test_a_client_takes_back_its_own_context(policy: FakePolicy, start: Start, address: str) -> None:
    start(policy)
    with PolicyClient(address, 20.0) as client:
        assert client.hello()["ready"]


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout_s: float, address: str) -> None:
    with pytest.raises(FlexorError, match="timeout_s"):
        Channel(Addresses.of(address).data, timeout_s)
