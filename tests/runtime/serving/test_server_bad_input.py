"""Whatever comes in: a typed error goes out, and the next good request is answered."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from fake_policy import FakePolicy, observation

from flexor.runtime.observation import Observation
from flexor.runtime.serving import wire
from flexor.runtime.serving.channel import ServerRefused
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.messages import InferRequest
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.wire import Message, decode, encode

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
Raw = Callable[..., list[bytes]]


def infer_frames(drop: str = "", arrays: dict[str, Any] | None = None, **changes: Any) -> list[bytes]:
    """A good infer message with some keys and arrays changed; a value of None in `arrays` leaves the array out."""
    request = InferRequest("s", 1, 1000.0, 0, None, observation(), None)
    fields = {key: value for key, value in {**request.fields(), **changes}.items() if key != drop}
    carried = {name: array for name, array in {**request.arrays(), **(arrays or {})}.items() if array is not None}
    return [bytes(frame) for frame in encode(Message("infer", 9, fields, carried))]


def nested(depth: int) -> list[Any]:
    """A list in a list in a list; msgpack reads 1020 of them, more than Python's own repr does."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture
def serving(policy: FakePolicy, start: Start) -> FakePolicy:
    start(policy)
    return policy


@pytest.mark.parametrize(
    ("frames", "code", "request_id"),
    [
        ([b""], "bad_message", None),
        ([b"\x00\xff\xfe random"], "bad_message", None),
        ([msgpack.packb({"v": 2, "type": "infer", "id": 9, "arrays": []})], "bad_version", 9),
        ([msgpack.packb({"v": 1, "type": "dance", "id": 9, "arrays": []})], "unknown_type", 9),
        ([msgpack.packb({"v": 1, "type": "shutdown", "id": 9, "arrays": []})], "unknown_type", 9),
        ([msgpack.packb({"v": 1, "type": "chunk", "id": 9, "arrays": []})], "unknown_type", 9),
        ([b"x" * 70_000], "too_large", None),
        ([*infer_frames(), b"one frame more"], "bad_array", 9),
        (infer_frames()[:-1], "bad_array", 9),
        ([infer_frames()[0], *[b"x"] * 40], "too_large", 9),
        ([infer_frames()[0], bytes(wire.MAX_TOTAL_BYTES)], "too_large", 9),
        (infer_frames(colour="red"), "unknown_key", 9),
        (infer_frames(drop="budget_ms"), "missing_key", 9),
        (infer_frames(session=""), "bad_value", 9),
        (infer_frames(session=4), "bad_value", 9),
        (infer_frames(session=nested(1015)), "bad_value", 9),
        ([msgpack.packb({"v": nested(1015), "id": 9})], "bad_version", 9),
        ([msgpack.packb({"v": 1, "type": "hello", "id": nested(1015), "arrays": []})], "bad_message", None),
        (infer_frames(prompt=None), "bad_value", 9),
        (infer_frames(step=-1), "bad_value", 9),
        (infer_frames(step=True), "bad_value", 9),
        (infer_frames(budget_ms=0.0), "bad_value", 9),
        (infer_frames(budget_ms=float("nan")), "bad_value", 9),
        (infer_frames(budget_ms=float("inf")), "bad_value", 9),
        (infer_frames(noise_seed=-1), "bad_value", 9),
        (infer_frames(arrays={"state": None}), "bad_array", 9),
        (infer_frames(arrays={"state": np.zeros(8, np.int64)}), "bad_array", 9),
        (infer_frames(arrays={"state": np.zeros((1, 8), np.float32)}), "bad_array", 9),
        (infer_frames(arrays={"image/base": np.zeros((4, 4, 4), np.uint8)}), "bad_array", 9),
        (infer_frames(arrays={"image/base": np.zeros((4, 4), np.uint8)}), "bad_array", 9),
        (infer_frames(arrays={"image/base": np.zeros((4, 4, 3), np.float32)}), "bad_array", 9),
        (infer_frames(arrays={"image/": np.zeros((4, 4, 3), np.uint8)}), "bad_array", 9),
        (infer_frames(arrays={"depth": np.zeros((4, 4), np.uint8)}), "bad_array", 9),
        (infer_frames(arrays={"action_prefix": np.zeros((2, 7), np.float32)}), "bad_value", 9),
        (infer_frames(arrays={"action_prefix": np.zeros(7, np.float32)}), "bad_array", 9),
    ],
)
def test_a_message_that_breaks_the_protocol_gets_a_typed_error(
    frames: list[bytes], code: str, request_id: int | None, serving: FakePolicy, raw: Raw, connect: Connect
) -> None:
    reply = decode(raw(frames))
    assert (reply.type, reply.id, reply.fields["code"]) == ("error", request_id, code)
    assert reply.fields["message"]
    assert connect().infer(observation(2.0)).actions[0, 0] == 2.0
    assert len(serving.seen) == 1


def test_an_error_names_what_is_taken(serving: FakePolicy, raw: Raw) -> None:
    text = decode(raw(infer_frames(colour="red"))).fields["message"]
    assert "'colour'" in text
    assert "budget_ms" in text


def test_orders_are_not_taken_by_the_data_socket_nor_observations_by_the_control_socket(
    serving: FakePolicy, raw: Raw, folder: Path, connect: Connect
) -> None:
    reply = decode(raw(infer_frames(), f"ipc://{folder}/policy.control.sock"))
    assert reply.fields["code"] == "unknown_type"
    assert "stats, shutdown" in reply.fields["message"]
    assert connect().hello()["ready"]


def test_random_and_mutated_messages_each_get_one_reply(serving: FakePolicy, raw: Raw, connect: Connect) -> None:
    generator = random.Random(5)
    good = infer_frames()
    for _ in range(300):
        if generator.random() < 0.4:
            frames = [generator.randbytes(generator.randrange(60)) for _ in range(generator.randrange(1, 5))]
        else:
            frames = list(good)
            at = generator.randrange(len(frames))
            frame = bytearray(frames[at])
            frame[generator.randrange(len(frame))] ^= generator.randrange(1, 256)
            frames[at] = bytes(frame[: generator.choice((len(frame), generator.randrange(len(frame))))])
        assert decode(raw(frames)).type in ("error", "chunk", "expired")
    assert connect().infer(observation()).actions.shape == (10, 7)


def test_a_stranger_who_does_not_speak_zeromq_changes_nothing(
    serving: FakePolicy, folder: Path, connect: Connect
) -> None:
    for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, b"\xff" + b"\0" * 8 + b"\x7f" + b"\0" * 54):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.settimeout(5.0)
            stranger.connect(str(folder / "policy.sock"))
            stranger.sendall(junk)
    assert connect().infer(observation()).actions.shape == (10, 7)


def test_a_bad_observation_is_answered_with_the_policys_words(serving: FakePolicy, connect: Connect) -> None:
    client = connect()
    with pytest.raises(ServerRefused, match="state is not finite") as caught:
        client.infer(observation(float("nan")))
    assert (caught.value.kind, caught.value.code) == ("error", "bad_observation")
    assert client.infer(observation()).actions.shape == (10, 7)


@pytest.mark.parametrize(
    ("prompt", "code", "words"),
    [("fail", "internal", "RuntimeError: the policy tripped"), ("diverge", "engine", "not finite")],
)
def test_a_policy_that_fails_is_told_and_the_server_lives(
    prompt: str, code: str, words: str, serving: FakePolicy, connect: Connect
) -> None:
    client = connect()
    with pytest.raises(ServerRefused, match=words) as caught:
        client.infer(observation(prompt=prompt))
    assert caught.value.code == code
    assert client.infer(observation()).actions.shape == (10, 7)


def test_an_engine_that_ends_still_answers_and_the_server_tells_why(
    policy: FakePolicy, address: str, connect: Connect, folder: Path
) -> None:
    server = PolicyServer(policy, address)
    server.start()
    server.wait_ready(20.0)
    with pytest.raises(ServerRefused, match="the policy left"):
        connect().infer(observation(prompt="exit"))
    assert server.wait(20.0)
    with pytest.raises(Exception, match="the policy left"):
        server.stop()
    assert list(folder.iterdir()) == []


def test_what_does_not_fit_the_wire_is_refused_before_it_is_sent(serving: FakePolicy, connect: Connect) -> None:
    seen = observation()
    client = connect()
    with pytest.raises(wire.WireError, match="float64"):
        client.ask(Observation(seen.images, np.zeros(8), seen.prompt), step=0)  # type: ignore[arg-type]
    assert client.poll(0.0) is None
    assert client.infer(seen).actions.shape == (10, 7)


def test_a_client_that_is_gone_costs_only_its_own_reply(policy: FakePolicy, start: Start, connect: Connect) -> None:
    policy.gate.clear()
    server = start(policy)
    gone = connect(greet=True)
    gone.ask(observation(), step=0)
    policy.await_infer()
    gone.close()
    policy.gate.set()
    assert connect().infer(observation()).actions.shape == (10, 7)
    server.stop()
    stats = server.stats()
    assert sum(stats["received"].values()) == sum(stats["replies"].values())
