"""Multipart messages over a zmq socket, frame by frame: large frames are received without a copy."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from flexor.runtime.serving.wire import Frame

VIEW_FROM_BYTES = 64 * 1024  # smaller frames lie unaligned in a buffer that they share, which a view would keep


def send(socket: zmq.Socket[bytes], frames: Sequence[Frame]) -> None:
    """Send at once, all frames or none; zmq has copied them when this returns.

    Raises:
        zmq.ZMQError: the first frame cannot be taken: Again when the queue is full, or the peer is gone.
    """
    for frame in frames[:-1]:
        socket.send(frame, zmq.NOBLOCK | zmq.SNDMORE)
    socket.send(frames[-1], zmq.NOBLOCK)


def receive(socket: zmq.Socket[bytes]) -> list[Frame]:
    """The frames of one message that is there.

    Raises:
        zmq.Again: there is none.
    """
    frames: list[Frame] = []
    more = True
    while more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        frames.append(frame.bytes if len(frame) < VIEW_FROM_BYTES else frame.buffer)
        more = frame.more
    return frames


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message is there. Cheaper than to try, and fail."""
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)
