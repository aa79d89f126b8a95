"""The codec: whatever the bytes, a message or a typed error; what is encoded comes back."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flexor.runtime.serving import wire
from flexor.runtime.serving.wire import Message, WireError, decode, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.text(max_size=8).filter(lambda k: k not in ("v", "type", "id", "arrays")), VALUES, max_size=4
)
ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.sampled_from([np.uint8, np.float32, np.int64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=4))
    ),
    max_size=4,
)
MESSAGES = st.builds(Message, st.text(min_size=1, max_size=12), st.integers(0, wire.MAX_ID), FIELDS, ARRAYS)
QUICK = settings(max_examples=300, deadline=None)


def frames_of(message: Message) -> list[bytes]:
    return [bytes(frame) for frame in encode(message)]


def outcome(frames: list[bytes]) -> Message | WireError:
    """What decode makes of frames; any exception but a WireError goes on."""
    try:
        return decode(frames)
    except WireError as error:
        return error


def pack(value: Any) -> bytes:
    packed = msgpack.packb(value)
    assert packed is not None
    return packed


def header(**changes: Any) -> bytes:
    """A valid header of a message without arrays, with some keys changed; a value of ... leaves the key out."""
    head = {"v": 1, "type": "hello", "id": 5, "arrays": [], **changes}
    return pack({key: value for key, value in head.items() if value is not ...})


def one_array(frame: bytes = b"abcd", **changes: Any) -> list[bytes]:
    entry = {"name": "a", "dtype": "uint8", "shape": [4], **changes}
    return [header(arrays=[{key: value for key, value in entry.items() if value is not ...}]), frame]


@QUICK
@given(MESSAGES)
def test_what_is_encoded_comes_back(message: Message) -> None:
    decoded = decode(frames_of(message))
    assert (decoded.type, decoded.id, decoded.fields) == (message.type, message.id, message.fields)
    assert list(decoded.arrays) == list(message.arrays)
    for name, array in message.arrays.items():
        assert decoded.arrays[name].dtype == array.dtype
        assert decoded.arrays[name].shape == array.shape
        assert decoded.arrays[name].tobytes() == array.tobytes()


@QUICK
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_frames_are_a_message_or_a_wire_error(frames: list[bytes]) -> None:
    made = outcome(frames)
    assert isinstance(made, Message) or (made.code and str(made))


@QUICK
@given(MESSAGES, st.data())
def test_a_mutated_message_is_a_message_or_a_wire_error(message: Message, data: st.DataObject) -> None:
    frames = frames_of(message)
    at = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[at])
    kind = data.draw(st.sampled_from(["flip", "cut", "grow", "drop", "double"]))
    if kind == "flip" and frame:
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del frame[data.draw(st.integers(0, len(frame))) :]
    elif kind == "grow":
        frame += data.draw(st.binary(min_size=1, max_size=9))
    replacement = {"drop": [], "double": [bytes(frame)] * 2}.get(kind, [bytes(frame)])
    frames[at : at + 1] = replacement
    made = outcome(frames)
    assert isinstance(made, Message) or (made.code and str(made))


@QUICK
@given(VALUES, VALUES, VALUES, VALUES)
def test_any_values_in_the_header_are_a_message_or_a_wire_error(v: Any, kind: Any, request_id: Any, table: Any) -> None:
    made = outcome([pack({"v": v, "type": kind, "id": request_id, "arrays": table}), b"frame"])
    assert (made.id if isinstance(made, Message) else made.request_id) in (None, request_id)


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview])
def test_decoded_arrays_cannot_be_written(container: Any) -> None:
    frames = [container(frame) for frame in frames_of(Message("m", 1, {}, {"a": np.arange(6, dtype=np.int64)}))]
    with pytest.raises(ValueError, match="read-only"):
        decode(frames).arrays["a"][0] = 1


def test_arrays_of_any_memory_layout_are_encoded_as_they_read() -> None:
    turned = np.arange(12, dtype=np.float32).reshape(3, 4).T[::-1]
    swapped = turned.astype(">f4")
    decoded = decode(frames_of(Message("m", 1, {}, {"turned": turned, "swapped": swapped})))
    np.testing.assert_array_equal(decoded.arrays["turned"], turned)
    np.testing.assert_array_equal(decoded.arrays["swapped"], turned)


@pytest.mark.parametrize(
    ("frames", "code", "request_id"),
    [
        ([], "bad_message", None),
        ([b""], "bad_message", None),
        ([b"\xc1"], "bad_message", None),
        ([header()[:-1]], "bad_message", None),
        ([header() + b"\x00"], "bad_message", None),
        ([msgpack.packb([1, 2])], "bad_message", None),
        ([msgpack.packb({1: 2})], "bad_message", None),
        ([msgpack.packb({b"v": 1})], "bad_message", None),
        ([b"\x91" * 5000], "bad_message", None),
        ([b"\xdd\xff\xff\xff\xff"], "bad_message", None),
        ([header(extra=msgpack.ExtType(5, b"12345678"))], "bad_message", None),
        ([header(v=2)], "bad_version", 5),
        ([header(v=...)], "bad_version", 5),
        ([header(v=True)], "bad_version", 5),
        ([header(v="1")], "bad_version", 5),
        ([header(id=...)], "bad_message", None),
        ([header(id=None)], "bad_message", None),
        ([header(id=-1)], "bad_message", None),
        ([header(id=2**63)], "bad_message", None),
        ([header(id=True)], "bad_message", None),
        ([header(id=1.0)], "bad_message", None),
        ([header(type=...)], "bad_message", 5),
        ([header(type="")], "bad_message", 5),
        ([header(type=7)], "bad_message", 5),
        ([header(type="x" * 129)], "bad_message", 5),
        ([header(arrays=...)], "bad_array", 5),
        ([header(arrays={})], "bad_array", 5),
        ([header(), b"stray"], "bad_array", 5),
        (one_array()[:1], "bad_array", 5),
        ([header(arrays=["a"]), b"abcd"], "bad_array", 5),
        (one_array(shape=...), "bad_array", 5),
        (one_array(order="F"), "bad_array", 5),
        (one_array(name=""), "bad_array", 5),
        (one_array(name=3), "bad_array", 5),
        (one_array(dtype="object"), "bad_array", 5),
        (one_array(dtype="float64"), "bad_array", 5),
        (one_array(dtype=["uint8"]), "bad_array", 5),
        (one_array(shape=4), "bad_array", 5),
        (one_array(shape=[]), "bad_array", 5),
        (one_array(shape=[5]), "bad_array", 5),
        (one_array(shape=[-2, -2]), "bad_array", 5),
        (one_array(shape=[4, True]), "bad_array", 5),
        (one_array(shape=[4.0]), "bad_array", 5),
        (one_array(frame=b"", shape=[0]), "bad_array", 5),
        (one_array(shape=[2**63, 2**63]), "bad_array", 5),
        (one_array(shape=[1] * 9), "bad_array", 5),
        (one_array(dtype="float32", shape=[4]), "bad_array", 5),
        ([header(x="y" * 65_536)], "too_large", None),
        ([header(), *[b"x"] * 17], "too_large", 5),
        ([header(), bytes(wire.MAX_TOTAL_BYTES)], "too_large", 5),
    ],
)
def test_a_broken_message_is_refused_by_code_and_with_its_id(
    frames: list[bytes], code: str, request_id: int | None
) -> None:
    with pytest.raises(WireError) as caught:
        decode(frames)
    assert (caught.value.code, caught.value.request_id) == (code, request_id)


def test_a_name_given_twice_is_refused() -> None:
    entry = {"name": "a", "dtype": "uint8", "shape": [1]}
    with pytest.raises(WireError, match="array name 'a'"):
        decode([header(arrays=[entry, entry]), b"x", b"y"])


def test_only_an_error_goes_without_an_id() -> None:
    assert decode([header(type="error", id=None)]).id is None
    with pytest.raises(WireError, match="id None"):
        decode([header(type="chunk", id=None)])


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Message("m", 1, {}, {"a": np.zeros(3)}), "bad_array"),
        (Message("m", 1, {}, {"a": np.array([object()])}), "bad_array"),
        (Message("m", 1, {}, {"a": np.zeros((0, 7), np.float32)}), "bad_array"),
        (Message("m", 1, {"v": 2}), "bad_message"),
        (Message("m", 1, {"x": {1, 2}}), "bad_message"),
        (Message("m", 1, {"x": 2**70}), "bad_message"),
        (Message("m", 1, {"x": "y" * 65_536}), "too_large"),
        (Message("m", 1, {}, {f"a{n}": np.zeros(1, np.uint8) for n in range(17)}), "too_large"),
        (Message("m", 1, {}, {"a": np.zeros(wire.MAX_TOTAL_BYTES, np.uint8)}), "too_large"),
    ],
)
def test_what_the_wire_does_not_carry_is_not_encoded(message: Message, code: str) -> None:
    with pytest.raises(WireError) as caught:
        encode(message)
    assert caught.value.code == code


def test_numbers_travel_little_endian() -> None:
    frames = frames_of(Message("m", 1, {}, {"a": np.array([1.5], np.float32), "b": np.array([-2], np.int64)}))
    assert frames[1:] == [struct.pack("<f", 1.5), struct.pack("<q", -2)]
