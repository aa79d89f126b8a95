"""Images in shared memory: they arrive as they were, whatever client and server do to each other, and nothing stays."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_policy import next_reply, observation
from memory_sharing import TIMEOUT_S, Seeing, mapped, noise, settled, sharing, unsealed

from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient, ServerRefused
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.shared_images import SLOTS, SharedImages

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
Spawn = Callable[..., subprocess.Popen[str]]
TESTS = str(Path(__file__).parents[2])
KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from fake_policy import observation
from flexor.runtime.serving.client import PolicyClient
client = PolicyClient(sys.argv[1], 20.0)
while not client.shares_memory:
    client.infer(observation())
client.ask(observation(), step=1)
print("asked", flush=True)
time.sleep(100)
"""


@pytest.fixture
def policy() -> Seeing:
    return Seeing()


def test_images_arrive_as_they_were_and_cannot_be_written(policy: Seeing, start: Start, connect: Connect) -> None:
    start(policy)
    client = sharing(connect())
    policy.shown.clear()
    asked = [noise(seed) for seed in range(3 * SLOTS)]
    turned = Observation({n: i[::-1, :, ::-1] for n, i in asked[0].images.items()}, asked[0].state, asked[0].prompt)
    for seen in [*asked, turned]:
        client.infer(seen)
        assert client.shares_memory
    for seen, shown in zip([*asked, turned], policy.shown, strict=True):
        assert list(shown) == list(seen.images)
        for name, image in seen.images.items():
            np.testing.assert_array_equal(shown[name], image)
    assert not policy.writeable


def test_the_caller_may_change_its_image_once_it_has_asked(policy: Seeing, start: Start, connect: Connect) -> None:
    start(policy)
    client = sharing(connect())
    policy.gate.clear()
    seen = noise(1)
    before = seen.images["base"].copy()
    client.ask(seen, step=0)
    seen.images["base"][:] = 0
    policy.gate.set()
    assert next_reply(client).type == "chunk"
    np.testing.assert_array_equal(policy.shown[-1]["base"], before)


def test_a_client_may_decline_and_tcp_has_no_lane(policy: Seeing, start: Start, address: str) -> None:
    start(policy)
    with PolicyClient(address, TIMEOUT_S, share_memory=False) as client:
        for _ in range(3):
            client.infer(observation())
        assert not client.shares_memory
    with PolicyServer(policy, "tcp://127.0.0.1:17431") as server, PolicyClient(server.addresses.data) as client:
        client.wait_ready(TIMEOUT_S)
        for _ in range(3):
            client.infer(observation())
        assert not client.shares_memory
        assert server.addresses.lane is None


def test_without_a_lane_images_go_as_frames_and_the_log_says_why_once(
    policy: Seeing, start: Start, connect: Connect, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(policy)
    (folder / "policy.lane.sock").unlink()
    client = connect()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            client.infer(observation())
    assert not client.shares_memory
    assert sum("images travel as frames: no lane" in record.message for record in caplog.records) == 1


class Unsealed:
    """A memory that its client could take away from the server."""

    def __init__(self, needed: int) -> None:
        self.slot_bytes, self.fd = needed, unsealed()

    def close(self) -> None:
        os.close(self.fd)

    def give_back(self, request_id: int) -> None:
        pass


def no_memory(needed: int) -> SharedImages:
    raise OSError("no memory files here")


@pytest.mark.parametrize(("memory", "reason"), [(Unsealed, "refused the memory: .*seals"), (no_memory, "no memory")])
def test_a_client_that_gets_no_memory_goes_on_with_frames_and_says_so_once(
    memory: Any,
    reason: str,
    policy: Seeing,
    start: Start,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(policy)
    monkeypatch.setattr("flexor.runtime.serving.lane.SharedImages", memory)
    client = connect()
    for step in range(5):
        client.infer(noise(step))
    assert not client.shares_memory
    said = [record.message for record in caplog.records if "images travel as frames" in record.message]
    assert len(said) == 1
    assert re.search(reason, said[0])


def test_larger_images_get_a_larger_memory(policy: Seeing, start: Start, connect: Connect) -> None:
    start(policy)
    client = sharing(connect())
    for size in (200, 16, 300, 200):
        for _ in range(3):
            client.infer(noise(size, size))
        assert client.shares_memory
        np.testing.assert_array_equal(policy.shown[-1]["wrist"], noise(size, size).images["wrist"])


def test_two_clients_have_each_their_own_memory(policy: Seeing, start: Start, connect: Connect) -> None:
    start(policy)
    clients = [sharing(connect()), sharing(connect())]
    policy.shown.clear()
    for step in range(2 * SLOTS):
        for number, client in enumerate(clients):
            client.infer(noise(100 * number + step))
    for at, shown in enumerate(policy.shown):
        np.testing.assert_array_equal(shown["base"], noise(100 * (at % 2) + at // 2).images["base"])


def test_a_client_without_a_free_slot_sends_frames_and_every_request_ends_once(
    policy: Seeing, start: Start, connect: Connect
) -> None:
    start(policy)
    client = sharing(connect())
    policy.gate.clear()
    asked = [client.ask(noise(step), step=step) for step in range(SLOTS + 3)]
    policy.gate.set()
    replies = [next_reply(client) for _ in asked]
    assert sorted(reply.id for reply in replies) == asked
    last = max(replies, key=lambda reply: reply.id)
    assert (last.type, last.step) == ("chunk", SLOTS + 2)
    np.testing.assert_array_equal(policy.shown[-1]["base"], noise(SLOTS + 2).images["base"])
    client.infer(observation())
    assert client.shares_memory


def test_what_is_asked_later_is_seen_later_when_frames_and_lane_alternate(
    policy: Seeing, start: Start, connect: Connect
) -> None:
    start(policy)
    client = sharing(connect())
    for turn in range(20):
        policy.seen.clear()
        policy.gate.clear()
        asked = [client.ask(observation(prompt=f"{step}"), step=step) for step in range(SLOTS + 1 + turn % 4)]
        policy.gate.set()
        ended = {reply.id: reply.type for reply in (next_reply(client) for _ in asked)}
        assert ended[asked[-1]] == "chunk"
        assert policy.seen == sorted(policy.seen)


def test_a_slot_is_not_used_again_while_the_server_may_look_at_it(
    policy: Seeing, start: Start, connect: Connect
) -> None:
    start(policy)
    client = sharing(connect())
    client._channel.timeout_s = 0.05
    policy.gate.clear()
    policy.shown.clear()
    client.ask(noise(0), step=0)
    assert next_reply(client).type == "timeout"
    for step in range(1, SLOTS + 2):
        client.ask(noise(step), step=step)
        assert next_reply(client).type in ("timeout", "superseded", "expired")
    policy.gate.set()
    assert settled(lambda: len(policy.shown), 1) >= 1
    np.testing.assert_array_equal(policy.shown[0]["base"], noise(0).images["base"])


def test_a_killed_client_leaves_no_memory_behind(policy: Seeing, start: Start, connect: Connect, address: str) -> None:
    start(policy)
    before = mapped()
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, address, TESTS], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "asked\n"
            child.send_signal(signal.SIGKILL)
    assert settled(mapped, before) == before
    client = sharing(connect())
    assert client.infer(observation()).actions.shape == (10, 7)


def test_a_client_killed_while_its_images_are_looked_at_costs_only_its_reply(
    policy: Seeing, start: Start, connect: Connect, address: str
) -> None:
    server = start(policy)
    with subprocess.Popen([sys.executable, "-c", KILLED, address, TESTS], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "asked\n"
        policy.gate.clear()
        held = connect()
        held.ask(observation(), step=0)
        child.send_signal(signal.SIGKILL)
        child.wait(TIMEOUT_S)
        policy.gate.set()
        assert next_reply(held).type == "chunk"
    assert sharing(connect()).infer(observation()).actions.shape == (10, 7)
    server.stop()
    stats = server.stats()
    assert sum(stats["received"].values()) == sum(stats["replies"].values())
    assert stats["lanes"] == 0


def test_clients_that_come_and_go_share_memory_each_time(policy: Seeing, start: Start, address: str) -> None:
    start(policy)
    before = mapped()
    for _ in range(20):
        with PolicyClient(address, TIMEOUT_S) as client:
            sharing(client)
    assert settled(mapped, before) == before


def test_after_a_restart_of_the_server_the_memory_is_shared_again(spawn: Spawn, connect: Connect) -> None:
    first = spawn()
    client = sharing(connect())
    first.kill()
    first.wait(TIMEOUT_S)
    client._channel.timeout_s = 0.5
    client.ask(observation(), step=1)
    assert next_reply(client).type == "timeout"
    assert not client.shares_memory
    client._channel.timeout_s = TIMEOUT_S
    spawn()
    assert sharing(client).infer(observation()).actions.shape == (10, 7)


def test_an_error_of_the_policy_comes_back_along_the_lane(policy: Seeing, start: Start, connect: Connect) -> None:
    start(policy)
    client = sharing(connect())
    for prompt, code in (("fail", "internal"), ("diverge", "engine")):
        with pytest.raises(ServerRefused) as caught:
            client.infer(observation(prompt=prompt))
        assert caught.value.code == code
    assert client.shares_memory
    assert client.infer(observation()).actions.shape == (10, 7)
