"""A lane and whatever comes along it: files that are no memory, descriptions of nothing, packets that are none."""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from fake_policy import observation
from memory_sharing import TIMEOUT_S, Seeing, mapped, settled, sharing, unsealed

from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.lane_door import LaneDoor
from flexor.runtime.serving.packets import MAX_PACKET_BYTES, PacketReader, packed, send_packet, unpacked
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.shared_images import SLOTS, SharedImages
from flexor.runtime.serving.wire import Message, decode, encode

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
Exchange = Callable[..., Message]
ENTRY = {"name": "image/base", "dtype": "uint8", "shape": [4, 4, 3], "offset": 0}
FIELDS = {"session": "s", "prompt": "p", "step": 0, "budget_ms": 1000.0, "delay_steps": 0}
STATE = {"state": np.zeros(8, np.float32)}


@pytest.fixture
def policy() -> Seeing:
    return Seeing()


@pytest.fixture
def lane(folder: Path) -> Iterator[Exchange]:
    """lane(message, file=None) -> the reply to a message along a lane; lane(packet) takes bytes, too."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(TIMEOUT_S)

    def exchange(message: Message | bytes, file: int | None = None) -> Message:
        if not connected:
            connection.connect(str(folder / "policy.lane.sock"))
            connected.append(True)
        packet = message if isinstance(message, bytes) else packed(encode(message))
        assert packet is not None
        send_packet(connection, packet, file)
        return decode(unpacked(PacketReader(connection).take([])))

    connected: list[bool] = []
    yield exchange
    connection.close()


def test_a_thousand_lanes_leave_neither_memory_nor_handles(policy: Seeing, start: Start, folder: Path) -> None:
    start(policy)
    offer = packed(encode(Message("memory", 0)))
    ask = packed(encode(Message("infer", 1, {**FIELDS, "shared": [ENTRY]}, STATE)))
    assert offer is not None
    assert ask is not None
    handles = lambda: len(os.listdir("/proc/self/fd"))  # noqa: E731
    before = mapped(), handles()
    for _ in range(1000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(folder / "policy.lane.sock"))
            memory = SharedImages(100_000)
            send_packet(connection, offer, memory.fd)
            send_packet(connection, ask)
            memory.close()
            reader = PacketReader(connection)
            assert [decode(unpacked(reader.take([]))).type for _ in range(2)] == ["ok", "chunk"]
    assert settled(mapped, before[0]) == before[0]
    assert settled(handles, before[1]) == before[1]


def test_the_client_cannot_take_its_memory_away(policy: Seeing, start: Start, lane: Exchange) -> None:
    start(policy)
    memory = SharedImages(4096)
    assert lane(Message("memory", 0), memory.fd).type == "ok"
    for size in (0, 2 * SLOTS * 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(memory.fd, size)
    memory.close()
    assert lane(Message("infer", 1, {**FIELDS, "shared": [ENTRY]}, STATE)).type == "chunk"


def test_another_file_under_the_same_number_changes_nothing(
    policy: Seeing, start: Start, lane: Exchange, tmp_path: Path
) -> None:
    start(policy)
    memory = SharedImages(4096)
    memory.put(1, {"image/base": np.full((4, 4, 3), 9, np.uint8)})
    assert lane(Message("memory", 0), memory.fd).type == "ok"
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, memory.fd)
    asked = {**FIELDS, "shared": [{**ENTRY, "offset": (SLOTS - 1) * 4096}]}
    assert lane(Message("infer", 1, asked, STATE)).type == "chunk"
    assert (policy.shown[-1]["base"] == 9).all()
    os.close(other)
    memory.close()


def sealed(size: int) -> int:
    memory = SharedImages(mmap.PAGESIZE)
    made = os.dup(memory.fd) if size else os.memfd_create("empty", os.MFD_ALLOW_SEALING)
    memory.close()
    return made


def piped() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


FILES: dict[str, Callable[[], int]] = {
    "not sealed": unsealed,
    "empty": lambda: sealed(0),
    "a file on disk": lambda: os.open(__file__, os.O_RDONLY),
    "a device": lambda: os.open("/dev/zero", os.O_RDONLY),
    "a folder": lambda: os.open("/tmp", os.O_RDONLY),
    "a pipe": piped,
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_memory_is_refused(
    case: str, policy: Seeing, start: Start, connect: Connect, lane: Exchange
) -> None:
    start(policy)
    file = FILES[case]()
    reply = lane(Message("memory", 0), file)
    os.close(file)
    assert (reply.type, reply.fields.get("code")) == ("error", "bad_memory")
    assert lane(Message("infer", 1, {**FIELDS, "shared": [ENTRY]}, STATE)).fields["code"] == "bad_memory"
    assert lane(Message("memory", 2)).fields["code"] == "bad_memory"
    assert sharing(connect()).infer(observation()).actions.shape == (10, 7)


BAD: list[tuple[str, Any, str]] = [
    ("no list", "x", "bad_array"),
    ("no map", [7], "bad_array"),
    ("unknown key", [{**ENTRY, "colour": "red"}], "bad_array"),
    ("missing key", [{key: value for key, value in ENTRY.items() if key != "offset"}], "bad_array"),
    ("before the memory", [{**ENTRY, "offset": -1}], "bad_array"),
    ("behind the memory", [{**ENTRY, "offset": SLOTS * 4096 - 47}], "bad_array"),
    ("far away", [{**ENTRY, "offset": 2**64 - 1}], "bad_array"),
    ("no number", [{**ENTRY, "offset": True}], "bad_array"),
    ("larger than the memory", [{**ENTRY, "shape": [400, 400, 3]}], "bad_array"),
    ("larger than all", [{**ENTRY, "shape": [2**24, 1, 3]}], "too_large"),
    ("a float image", [{**ENTRY, "dtype": "float32"}], "bad_array"),
    ("no dtype", [{**ENTRY, "dtype": "object"}], "bad_array"),
    ("four channels", [{**ENTRY, "shape": [4, 4, 4]}], "bad_array"),
    ("an empty shape", [{**ENTRY, "shape": [0, 4, 3]}], "bad_array"),
    ("twice", [ENTRY, ENTRY], "bad_array"),
    ("the state", [{**ENTRY, "name": "state"}], "bad_array"),
    ("an unknown array", [{**ENTRY, "name": "sound"}], "bad_array"),
    ("too many", [{**ENTRY, "name": f"image/{n}"} for n in range(17)], "bad_array"),
]


@pytest.mark.parametrize(("table", "code"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_description_is_refused_with_its_id(
    table: Any, code: str, policy: Seeing, start: Start, lane: Exchange
) -> None:
    start(policy)
    memory = SharedImages(4096)
    assert lane(Message("memory", 0), memory.fd).type == "ok"
    memory.close()
    reply = lane(Message("infer", 5, {**FIELDS, "shared": table}, STATE))
    assert (reply.type, reply.id, reply.fields.get("code")) == ("error", 5, code)
    assert lane(Message("infer", 6, {**FIELDS, "shared": [ENTRY]}, STATE)).type == "chunk"


def test_a_lane_takes_nothing_else_and_the_data_socket_no_descriptions(
    policy: Seeing, start: Start, lane: Exchange, raw: Callable[..., list[bytes]]
) -> None:
    start(policy)
    for kind in ("hello", "shutdown", "stats", "episode.begin"):
        assert lane(Message(kind, 3)).fields["code"] == "unknown_type"
    for packet in (b"\1", b"\0" * 4, b"\xff" * 400, b"x" * (MAX_PACKET_BYTES + 1)):
        assert lane(packet).fields["code"] in ("bad_message", "too_large")
    shared = Message("infer", 4, {**FIELDS, "shared": [ENTRY]}, STATE)
    assert decode(raw([bytes(frame) for frame in encode(shared)])).fields["code"] == "unknown_key"
    assert decode(raw([bytes(frame) for frame in encode(Message("memory", 4))])).fields["code"] == "unknown_type"
    assert lane(Message("infer", 5, FIELDS, STATE)).type == "chunk"


def test_files_that_nobody_asked_for_are_closed(policy: Seeing, start: Start, lane: Exchange, tmp_path: Path) -> None:
    start(policy)
    assert lane(Message("infer", 1, FIELDS, STATE)).type == "chunk"
    before = len(os.listdir("/proc/self/fd"))
    with open(tmp_path / "file", "w") as file:
        for _ in range(50):
            assert lane(Message("infer", 1, FIELDS, STATE), file.fileno()).type == "chunk"
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_client_that_leaves_its_replies_unread_loses_its_lane_and_nobody_else_does(
    policy: Seeing, start: Start, connect: Connect, folder: Path
) -> None:
    start(policy)
    other = sharing(connect())
    ask = packed(encode(Message("hello", 1)))
    assert ask is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(folder / "policy.lane.sock"))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            while True:
                connection.send(ask)
    assert other.infer(observation()).actions.shape == (10, 7)
    assert other.shares_memory


def test_without_a_file_handle_left_a_knock_is_answered_by_hanging_up(tmp_path: Path) -> None:
    """Else the door would stay open to every poll, and the thread behind it would turn without an end."""
    poller, path = zmq.Poller(), tmp_path / "door.sock"
    door = LaneDoor(path, poller)
    knocking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    knocking.settimeout(TIMEOUT_S)
    knocking.connect(str(path))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        door.ready(dict(poller.poll(1000)))
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert knocking.recv(1) == b"" and len(door) == 0 and poller.poll(0) == []
    again = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    again.connect(str(path))
    door.ready(dict(poller.poll(1000)))
    assert len(door) == 1
    for ours in (knocking, again):
        ours.close()
    door.close()
