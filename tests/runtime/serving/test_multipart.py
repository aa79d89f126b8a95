"""Multipart messages over a real socket: whole, in order, and independent of the memory at both ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq

from flexor.runtime.serving import multipart
from flexor.runtime.serving.wire import Message, decode, encode

TIMEOUT_MS = 20_000
Pair = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]


@pytest.fixture
def pair(address: str, context: zmq.Context[Any]) -> Iterator[Pair]:
    """A socket that sends and the one that receives, over ipc."""
    receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    for socket in (receiver, sender):
        socket.setsockopt(zmq.LINGER, 0)
    receiver.bind(address)
    sender.connect(address)
    assert sender.poll(TIMEOUT_MS, zmq.POLLOUT)
    yield sender, receiver
    sender.close()
    receiver.close()


def received(receiver: zmq.Socket[bytes]) -> list[bytes | memoryview]:
    assert receiver.poll(TIMEOUT_MS)
    return multipart.receive(receiver)


def test_frames_of_any_size_arrive_whole_and_in_order(pair: Pair) -> None:
    sender, receiver = pair
    frames = [b"header", b"", b"x" * (multipart.VIEW_FROM_BYTES - 1), b"y" * multipart.VIEW_FROM_BYTES, b"end"]
    multipart.send(sender, frames)
    multipart.send(sender, [b"another"])
    assert [bytes(frame) for frame in received(receiver)] == frames
    assert [bytes(frame) for frame in received(receiver)] == [b"another"]
    assert not multipart.readable(receiver)
    with pytest.raises(zmq.Again):
        multipart.receive(receiver)


def test_what_was_sent_does_not_change_with_its_array(pair: Pair) -> None:
    sender, receiver = pair
    image = np.full((224, 224, 3), 1, np.uint8)
    multipart.send(sender, encode(Message("infer", 1, {}, {"image/base": image})))
    image[:] = 2
    assert (decode(received(receiver)).arrays["image/base"] == 1).all()


def test_arrays_of_a_message_outlive_later_messages_and_are_aligned_and_read_only(pair: Pair) -> None:
    sender, receiver = pair
    kept = []
    for value in range(8):
        arrays = {
            "state": np.full(7, value, np.float32),
            "odd": np.full(3, value, np.uint8),
            "prefix": np.full((2, 7), value, np.float32),
            "image/base": np.full((224, 224, 3), value, np.uint8),
        }
        multipart.send(sender, encode(Message("infer", value, {}, arrays)))
        kept.append(decode(received(receiver)).arrays)
    for value, arrays in enumerate(kept):
        for array in arrays.values():
            assert (array == value).all()
            assert array.flags.aligned
            assert not array.flags.writeable
