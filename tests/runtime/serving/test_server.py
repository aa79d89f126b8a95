"""The server on real sockets and threads: one reply a request, the newest observation, and what it knows."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from fake_policy import FakePolicy, next_reply, observation

from flexor.runtime.serving.address import AddressError
from flexor.runtime.serving.channel import ServerRefused
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.server import PolicyServer, ServerError

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
TIMEOUT_S = 20.0


def test_a_server_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; import flexor.runtime.serving.server, flexor.runtime.inference.policy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_chunk_answers_its_own_observation(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy)
    client = connect()
    chunk = client.infer(observation(3.5), step=7, noise_seed=11)
    assert chunk.actions.dtype == np.float32
    np.testing.assert_array_equal(chunk.actions, np.full((10, 7), 3.5, np.float32))
    assert chunk.provenance.noise_seed == 11
    assert chunk.scores["accel"] == 0.25
    assert {"total", "wait", "policy"} <= set(chunk.timing_ms)
    assert not chunk.actions.flags.writeable


def test_the_server_chooses_a_seed_and_tells_it(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy)
    client = connect()
    seeds = {client.infer(observation()).provenance.noise_seed for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_committed_actions_reach_the_policy(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy)
    prefix = np.arange(14, dtype=np.float32).reshape(2, 7)
    chunk = connect().infer(observation(9.0), delay_steps=2, action_prefix=prefix)
    np.testing.assert_array_equal(chunk.actions[:2], prefix)
    assert (chunk.actions[2:] == 9.0).all()


def test_hello_says_ready_only_after_the_warm_up(policy: FakePolicy, start: Start, connect: Connect) -> None:
    policy.warm.clear()
    start(policy, ready=False)
    client = connect()
    hello = client.hello()
    assert not hello["ready"]
    assert hello["cameras"] == ["base", "wrist"]
    with pytest.raises(ServerRefused, match="warming up") as caught:
        client.infer(observation())
    assert caught.value.kind == "busy"
    policy.warm.set()
    assert client.wait_ready(TIMEOUT_S)["ready"]
    assert client.hello()["ready"]
    assert policy.seen == []


def test_a_policy_that_cannot_warm_up_ends_the_server(policy: FakePolicy, address: str, folder: Path) -> None:
    policy.warm_up = lambda: (_ for _ in ()).throw(RuntimeError("no weights"))  # type: ignore[method-assign]
    server = PolicyServer(policy, address)
    server.start()
    with pytest.raises(ServerError, match="no weights"):
        server.wait_ready(TIMEOUT_S)
    with pytest.raises(ServerError, match="no weights"):
        server.stop()
    assert list(folder.iterdir()) == []


def test_a_newer_observation_supersedes_the_waiting_one(policy: FakePolicy, start: Start, connect: Connect) -> None:
    policy.gate.clear()
    start(policy)
    client = connect(greet=True)
    running = client.ask(observation(prompt="running"), step=0)
    policy.await_infer()
    waiting = client.ask(observation(prompt="waiting"), step=5)
    newest = client.ask(observation(prompt="newest"), step=10)
    first = next_reply(client)
    assert (first.id, first.type, first.step) == (waiting, "superseded", 5)
    policy.gate.set()
    assert [(next_reply(client).id, kind) for kind in ("chunk", "chunk")] == [(running, "chunk"), (newest, "chunk")]
    assert policy.seen == ["running", "newest"]


def test_a_request_that_waited_too_long_expires_while_the_engine_works(
    policy: FakePolicy, start: Start, connect: Connect
) -> None:
    policy.gate.clear()
    start(policy)
    held, late = connect(greet=True), connect(greet=True)
    held.ask(observation(prompt="running"), step=0)
    policy.await_infer()
    asked = late.ask(observation(prompt="late"), step=1, budget_ms=20.0)
    reply = next_reply(late)
    assert (reply.id, reply.type) == (asked, "expired")
    assert "budget of 20 ms" in reply.message
    policy.gate.set()
    assert next_reply(held).type == "chunk"
    assert policy.seen == ["running"]


def test_more_waiting_sessions_than_allowed_are_told_busy(policy: FakePolicy, start: Start, connect: Connect) -> None:
    policy.gate.clear()
    start(policy, max_waiting=1)
    running, waiting, refused = connect(greet=True), connect(greet=True), connect(greet=True)
    running.ask(observation(), step=0)
    policy.await_infer()
    waiting.ask(observation(), step=0)
    waiting.hello()  # its observation has arrived by now
    refused.ask(observation(), step=0)
    assert next_reply(refused).type == "busy"
    policy.gate.set()
    assert next_reply(running).type == "chunk"
    assert next_reply(waiting).type == "chunk"


def test_a_flood_of_sessions_gets_exactly_one_reply_each_time(
    policy: FakePolicy, start: Start, address: str, context: zmq.Context[Any]
) -> None:
    server = start(policy, max_waiting=8)
    sessions, asks = 20, 60
    endings: list[list[tuple[int, str]]] = [[] for _ in range(sessions)]
    asked: list[list[int]] = [[] for _ in range(sessions)]

    def flood(worker: int) -> None:
        with PolicyClient(address, TIMEOUT_S * 2, context=context) as client:
            for step in range(asks):
                budget = 1.0 if step % 5 == 0 else None
                prompt = "fail" if step % 7 == 0 else "go"
                asked[worker].append(client.ask(observation(prompt=prompt), step, budget_ms=budget))
                if step % 3 == 0 and (reply := client.poll(0.0)) is not None:
                    endings[worker].append((reply.id, reply.type))
            while len(endings[worker]) < asks and (reply := client.poll(TIMEOUT_S)) is not None:
                endings[worker].append((reply.id, reply.type))
            assert client.poll(0.05) is None

    threads = [threading.Thread(target=flood, args=(worker,)) for worker in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S * 3)
        assert not thread.is_alive()
    for ids, ended in zip(asked, endings, strict=True):
        assert Counter(request for request, _ in ended) == Counter(ids)
    kinds = Counter(kind for ended in endings for _, kind in ended)
    assert kinds["timeout"] == 0
    assert kinds["chunk"] > 0
    server.stop()
    stats = server.stats()
    assert sum(stats["received"].values()) == sum(stats["replies"].values())
    assert stats["undeliverable"] == 0
    assert stats["replies"]["chunk"] == kinds["chunk"]


def test_the_control_socket_is_for_its_user_alone_and_tells_and_stops(
    policy: FakePolicy, start: Start, connect: Connect, address: str, folder: Path, context: zmq.Context[Any]
) -> None:
    server = start(policy)
    assert stat.S_IMODE((folder / "policy.control.sock").stat().st_mode) == 0o600
    connect().infer(observation())
    with ServerControl(address, TIMEOUT_S, context) as control:
        stats = control.stats()
        assert stats["ready"]
        assert stats["replies"]["chunk"] == 1
        assert stats["policy_ms"]["p50"] >= 0.0
        control.shutdown()
    assert server.wait(TIMEOUT_S)
    server.stop()
    assert list(folder.iterdir()) == []


def test_stopping_answers_what_runs_and_what_waits(policy: FakePolicy, start: Start, connect: Connect) -> None:
    policy.gate.clear()
    server = start(policy)
    running, waiting = connect(greet=True), connect(greet=True)
    running.ask(observation(), step=0)
    policy.await_infer()
    waiting.ask(observation(), step=0)
    waiting.hello()  # its observation waits by now
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    reply = next_reply(waiting)
    assert (reply.type, reply.code) == ("error", "stopping")
    policy.gate.set()
    assert next_reply(running).type == "chunk"
    stopping.join(TIMEOUT_S)
    assert not stopping.is_alive()


def test_a_chunk_that_never_ends_does_not_keep_the_files(
    policy: FakePolicy, start: Start, connect: Connect, folder: Path
) -> None:
    policy.gate.clear()
    server = start(policy, stop_timeout_s=0.2)
    connect(greet=True).ask(observation(), step=0)
    policy.await_infer()
    with pytest.raises(ServerError, match="did not stop"):
        server.stop()
    assert not (folder / "policy.control.sock.lock").exists()
    policy.gate.set()


def test_a_live_servers_address_is_refused(policy: FakePolicy, start: Start, connect: Connect, address: str) -> None:
    start(policy)
    with pytest.raises(AddressError, match="already listens"):
        PolicyServer(FakePolicy(), address).start()
    assert connect().infer(observation()).actions.shape == (10, 7)


def test_a_stopped_servers_address_is_free_again(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy).stop()
    start(FakePolicy())
    assert connect().infer(observation()).actions.shape == (10, 7)
