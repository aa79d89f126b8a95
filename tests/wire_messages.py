"""Messages for the fuzzer of the wire: valid ones of every kind, and what may happen to their frames on the way."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from hypothesis import strategies as st

from flexor.runtime.observation import ActionChunk, Observation, Provenance
from flexor.runtime.serving import wire
from flexor.runtime.serving.messages import InferRequest, chunk_message
from flexor.runtime.serving.schema import OUTCOMES, SOURCES
from flexor.runtime.serving.wire import Message, encode

SHARED_BYTES = 4096  # of the memory that sharing_infers speak of
IDS = st.integers(0, wire.MAX_ID)
TEXTS = st.text(max_size=12)
SESSIONS = st.text(min_size=1, max_size=12)
SEEDS = st.none() | IDS
# Lengths that lie, types that the wire does not have, ends of the integer ranges.
TOKENS = (
    [bytes([byte]) for byte in (0x80, 0x81, 0x8F, 0x90, 0x91, 0x9F, 0xC0, 0xC1, 0xC2, 0xC3, 0xFF)]
    + [b"\xca\x7f\xc0\x00\x00", b"\xcb\x7f\xf0" + bytes(6), b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7)]
    + [b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
    + [b"\xdb\xff\xff\xff\xff", b"\xd4\xff\x00", b"\xd6\xff" + bytes(4), b"\xc7\x01\x05\x00", b"\xa2\xc3\x28"]
    + [b"\xa3\xed\xa0\x80", b"\xdc\x03\xff" * 300, b"\x91" * 1100, b"\x81\xa1a" * 1100]
)
VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 2**63, 2**64 - 1, -(2**63), 0.0, -1.0, float("nan"), float("inf"), "", "v", "x" * 20_000),
    *(
        b"",
        b"\xff\xfe",
        [],
        [[]],
        {},
        {"v": 1},
        {b"k": 1},
        {"": None},
        [None] * 1024,
        [0],
        [-1],
        [2**63, 2**63],
        [1] * 9,
    ),
]
KEYS = ["v", "type", "id", "arrays", "session", "prompt", "step", "budget_ms", "delay_steps", "noise_seed", "label"]
KEYS += [
    "shared",
    "offset",
    "provenance",
    "timing_ms",
    "scores",
    "scored_step",
    "outcome",
    "source",
    "task",
    "seed",
    "code",
    "x" * 200,
]


@st.composite
def _infers(draw: st.DrawFn) -> Message:
    cameras = draw(st.lists(st.sampled_from(["base", "wrist", "a/b", "é"]), max_size=2, unique=True))
    images = {name: np.full((draw(st.integers(1, 6)), 5, 3), 7, np.uint8) for name in cameras}
    delay = draw(st.integers(0, 3))
    prefix = np.ones((delay, 7), np.float32) if delay and draw(st.booleans()) else None
    seen = Observation(images, np.ones(draw(st.integers(1, 9)), np.float32), draw(TEXTS))
    budget = draw(st.floats(0.5, 600_000.0))
    request = InferRequest(draw(SESSIONS), draw(IDS), budget, delay, draw(SEEDS), seen, prefix)
    return Message("infer", draw(IDS), request.fields(), request.arrays())


@st.composite
def sharing_infers(draw: st.DrawFn) -> Message:
    """A request whose images lie in a memory of `SHARED_BYTES`, mostly inside it."""
    request = draw(_infers())
    images = {name: array for name, array in request.arrays.items() if name.startswith("image/")}
    offsets = st.integers(0, SHARED_BYTES - 200) | st.sampled_from([SHARED_BYTES, -1, 2**64 - 1])
    shared = [
        {"name": name, "dtype": "uint8", "shape": list(image.shape), "offset": draw(offsets)}
        for name, image in images.items()
    ]
    arrays = {name: array for name, array in request.arrays.items() if name not in images}
    return Message("infer", request.id, {**request.fields, "shared": shared}, arrays)


@st.composite
def _chunks(draw: st.DrawFn) -> Message:
    by = Provenance(draw(TEXTS), "base", "torch", "cpu", "fp32", 10, draw(IDS))
    chunk = ActionChunk(np.ones((draw(st.integers(1, 10)), 7), np.float32), by, {"total": 1.5}, {"accel": 0.25})
    scored = draw(st.none() | st.tuples(IDS, st.just({"ace_bits": 1.0})))
    return chunk_message(draw(IDS), chunk, {"wait": 0.5}, scored)


def _others(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(kind), IDS, st.fixed_dictionaries(fields))


MESSAGES = st.one_of(
    _infers(),
    _infers(),
    _chunks(),
    _others("hello"),
    _others("stats"),
    _others("episode.begin", session=SESSIONS, task=SESSIONS, seed=SEEDS),
    _others(
        "episode.end",
        session=SESSIONS,
        outcome=st.sampled_from(OUTCOMES),
        label=st.none() | TEXTS,
        source=st.sampled_from(SOURCES),
    ),
    _others("error", code=SESSIONS, message=TEXTS),
    _others("hello", ready=st.booleans(), policy=st.just({"bundle": "b"}), server=st.just({})),
)


def frames_of(message: Message) -> list[bytes]:
    """The frames of `message` as they travel."""
    return [bytes(frame) for frame in encode(message)]


def _flip(frame: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        if frame:
            frame[rng.randrange(len(frame))] ^= rng.randint(1, 255)


def _cut(frame: bytearray, rng: random.Random) -> None:
    del frame[rng.randint(0, len(frame)) :]


def _grow(frame: bytearray, rng: random.Random) -> None:
    frame += rng.randbytes(rng.randint(1, 20))


def _insert(frame: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(frame))
    frame[at : at + rng.randint(0, 6)] = rng.choice(TOKENS)


def _lie(frame: bytearray, rng: random.Random) -> None:
    """Another number where one may stand."""
    at = rng.randint(0, len(frame))
    frame[at : at + 8] = struct.pack(">q", rng.choice((0, 1, -1, 2**31, 2**63 - 1, -(2**63))))


def _noise(frame: bytearray, rng: random.Random) -> None:
    frame[:] = rng.randbytes(rng.randint(0, 300))


def _pad(frame: bytearray, rng: random.Random) -> None:
    """To the edge of what a header may have, or just over it."""
    frame += rng.choice((b"\x00", b"\xc0", b"\x90")) * (wire.MAX_HEADER_BYTES - len(frame) + rng.randint(-1, 1))


def _reword(frame: bytearray, rng: random.Random) -> None:
    """A header that still is msgpack, with a value, a key or an array entry that is another one."""
    try:
        head = msgpack.unpackb(bytes(frame))
    except Exception:  # another mutation came first, or this is an array
        return
    if not isinstance(head, dict) or not head:
        return
    table = head.get("arrays")
    shared = head.get("shared")
    tables = [listed for listed in (table, shared) if isinstance(listed, list)]
    entries = [entry for listed in tables for entry in listed if isinstance(entry, dict)]
    where: dict[Any, Any] = rng.choice([head, *entries, *(value for value in head.values() if isinstance(value, dict))])
    key = rng.choice(list(where) if where and rng.random() < 0.7 else KEYS)
    if rng.random() < 0.25:
        where.pop(key, None)
    else:
        where[key] = rng.choice(VALUES)
    frame[:] = msgpack.packb(head) or b""


IN_FRAME: list[Callable[[bytearray, random.Random], None]] = [_flip, _cut, _grow, _insert, _lie, _noise, _pad, _reword]


def mutate(frames: list[bytearray], rng: random.Random) -> None:
    """Do one thing to `frames`: inside one of them (often the header), or to how many there are and their order."""
    if frames and rng.random() < 0.8:
        frame = frames[0] if rng.random() < 0.6 else rng.choice(frames)
        (_reword if frame is frames[0] and rng.random() < 0.7 else rng.choice(IN_FRAME))(frame, rng)
        return
    at = rng.randint(0, len(frames))
    match rng.randrange(4):
        case 0:
            del frames[at : at + 1]
        case 1:
            frames[at:at] = [bytearray(rng.randbytes(rng.randint(0, 40)))]
        case 2:
            frames[at:] = [bytearray(frame) for frame in frames[at:] * rng.choice((2, 20))]
        case _:
            rng.shuffle(frames)
