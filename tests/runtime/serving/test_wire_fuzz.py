"""Whatever arrives: a request, or a WireError and nothing else; what was refused leaves no memory behind."""

from __future__ import annotations

import gc
import random
import socket
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_messages import MESSAGES, SHARED_BYTES, frames_of, mutate, sharing_infers

from flexor.runtime.serving import wire
from flexor.runtime.serving.messages import InferRequest, chunk_from
from flexor.runtime.serving.packets import packed, send_packet, unpacked
from flexor.runtime.serving.peers import LanePeer
from flexor.runtime.serving.schema import CONTROL_REQUESTS, DATA_REQUESTS, LANE_REQUESTS, REPLIES, check
from flexor.runtime.serving.shared_images import SLOTS, SharedImages
from flexor.runtime.serving.wire import Message, WireError, decode, encode

ALWAYS, NIGHTLY, SHARDS = 2_000, 100_000, 10
HUGE = bytearray(wire.MAX_TOTAL_BYTES + 1)  # shared: making it anew would take longer than the test
KIB, MIB = 1024, 1024 * 1024
CODES = {"bad_message", "bad_version", "too_large", "bad_array", "bad_memory"} | {
    *("unknown_type", "unknown_key", "missing_key", "bad_value")
}
SOCKETS = {"data": DATA_REQUESTS, "control": CONTROL_REQUESTS, "client": REPLIES}
SOCKETS |= {"lane": LANE_REQUESTS, "lane without memory": LANE_REQUESTS}


@pytest.fixture(scope="module", autouse=True)
def lanes() -> Iterator[None]:
    """Two peers as a server has them: one has sent its memory, and one has not."""
    for name in ("lane", "lane without memory"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memory, LANES[name] = SharedImages(SHARED_BYTES // SLOTS), LanePeer(ours)
        if name == "lane":
            send_packet(theirs, b"memory", memory.fd)
            assert LANES[name].receive() == b"memory"
            LANES[name].map_memory(0)
        memory.close()
        theirs.close()
    yield
    for lane in LANES.values():
        lane.close()
    LANES.clear()


LANES: dict[str, LanePeer] = {}


def fuzz(cases: int) -> Callable[..., Any]:
    return settings(max_examples=cases, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


def read(frames: list[memoryview], where: str) -> object:
    """What a server's socket or a client makes of `frames`."""
    message = LANES[where].read(frames) if where in LANES else decode(frames)
    check(message, SOCKETS[where], "this socket")
    if message.type == "infer":
        return InferRequest.from_message(message)
    return chunk_from(message) if message.type == "chunk" else message


@contextmanager
def without_gc() -> Iterator[None]:
    """What is freed here is freed at once, and not by a collector that may come later."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def refusal(frames: list[bytearray], where: str) -> WireError | None:
    """How `frames` were refused, without its traceback, as a server keeps nothing of it; None when they were read."""
    try:
        read([memoryview(frame) for frame in frames], where)
    except WireError as error:
        return WireError(error.code, str(error), error.request_id)
    return None


def hold_true(frames: list[bytearray], where: str) -> None:
    """The claims about one message, whatever it is."""
    with without_gc():
        refused = refusal(frames, where)
        if refused is None:
            return
        for frame in frames:  # one that is still looked at cannot change its size: that would be a BufferError
            frame.append(0)
            frame.pop()
    assert refused.code in CODES
    reply = Message("error", refused.request_id, {"code": refused.code, "message": str(refused)})
    told = decode(frames_of(reply))
    check(told, REPLIES, "the client")
    assert told.fields["message"]


def _packet_like(row: list[int], rest: bytes) -> bytes:
    """A row of lengths, and then something."""
    return struct.pack(f"<{len(row) + 1}I", len(row), *row) + rest


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[bytearray], str]:
    """Frames as they may arrive, and the socket: mostly a valid message to which up to four things happened."""
    rng = random.Random(draw(st.integers(0, 2**64 - 1)))
    kind = draw(st.sampled_from(["data"] * 4 + ["client"] * 2 + ["control"] + ["lane"] * 4 + ["lane without memory"]))
    if draw(st.integers(0, 9)) == 0:
        frames = [bytearray(rng.randbytes(rng.randint(0, 400))) for _ in range(rng.randint(0, 20))]
    else:
        sharing = kind.startswith("lane") and rng.random() < 0.8
        frames = [bytearray(frame) for frame in frames_of(draw(sharing_infers() if sharing else MESSAGES))]
        for _ in range(draw(st.integers(0, 4))):
            mutate(frames, rng)
        if frames and rng.random() < 0.02:
            frames[rng.randrange(len(frames))] = HUGE
    return frames, kind


@fuzz(ALWAYS)
@given(
    st.binary(max_size=200)
    | st.builds(_packet_like, st.lists(st.integers(0, 40), max_size=20), st.binary(max_size=200))
)
def test_a_packet_is_frames_or_a_wire_error(packet: bytes) -> None:
    try:
        frames = unpacked(memoryview(packet))
    except WireError as error:
        assert error.code in {"bad_message", "too_large"}
    else:
        assert packed(frames) == packet


@fuzz(ALWAYS)
@given(arrivals())
def test_no_message_gets_anything_but_a_wire_error_out_or_stays_in_memory(arrival: tuple[list[bytearray], str]) -> None:
    hold_true(*arrival)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_message_of_a_hundred_thousand_does(shard: int) -> None:
    ran = 0

    @fuzz(NIGHTLY // SHARDS)
    @given(arrivals())
    def claim(arrival: tuple[list[bytearray], str]) -> None:
        nonlocal ran
        ran += 1
        hold_true(*arrival)

    claim()
    assert ran >= NIGHTLY // SHARDS


def test_the_fuzzer_reaches_every_refusal_and_good_messages_too() -> None:
    codes: set[str] = set()

    @settings(max_examples=1500, deadline=None, derandomize=True, database=None)
    @given(arrivals())
    def collect(arrival: tuple[list[bytearray], str]) -> None:
        refused = refusal(*arrival)
        codes.add(refused.code if refused else "read")

    collect()
    assert codes == CODES | {"read"}


def infer_frames(size: int, **changes: Any) -> list[bytearray]:
    """An infer message with one picture of `size` bytes, and header keys changed."""
    fields = {"session": "s", "prompt": "p", "step": 0, "budget_ms": 1.0, "delay_steps": 0, "noise_seed": None}
    arrays = {"image/base": np.zeros((size // 3, 1, 3), np.uint8), "state": np.zeros(8, np.float32)}
    return [bytearray(frame) for frame in encode(Message("infer", 1, {**fields, **changes}, arrays))]


def wide_header(length: int) -> list[bytearray]:
    """A header of the greatest size: lists in lists, each of which claims `length` items."""
    claims = (b"\xdc" + length.to_bytes(2, "big")) * 1000
    return [bytearray(claims + b"\xc0" * (wire.MAX_HEADER_BYTES - len(claims)))]


REFUSED: dict[str, Callable[[], list[bytearray]]] = {
    "above the limit": lambda: [*infer_frames(300)[:1], HUGE],
    "header above the limit": lambda: [HUGE],
    "unknown key": lambda: infer_frames(24 * MIB, colour="red"),
    "bad value": lambda: infer_frames(24 * MIB, step=-1),
    "cut": lambda: [frame[:-1] for frame in infer_frames(24 * MIB)],
    "one frame short": lambda: infer_frames(24 * MIB)[:-1],
    "huge value": lambda: infer_frames(300, colour="x" * 60_000),
    "lists that claim more than there is": lambda: wide_header(1024),
    "lists that claim as much as the header is long": lambda: wide_header(61_440),
    "many lists": lambda: [bytearray(msgpack.packb({"v": [[[]] * 1000] * 30}) or b"")],
    "many maps": lambda: [bytearray(msgpack.packb({"v": [[{"a": 1}] * 1000] * 16}) or b"")],
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_message_takes_little_and_keeps_nothing(case: str) -> None:
    frames = REFUSED[case]()
    assert refusal(frames, "data") is not None
    tracemalloc.start()
    try:
        with without_gc():
            for _ in range(20):
                refusal(frames, "data")
            kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 64 * KIB
    assert peak < 16 * MIB
