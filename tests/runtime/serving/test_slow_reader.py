"""Peers that take no part: one asks and never reads, one floods and is gone. The others do not notice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from fake_policy import FakePolicy, observation

from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.messages import InferRequest
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.wire import Message, encode

TIMEOUT_S = 20.0
ROUNDS, ASKED_A_ROUND = 60, 1000  # the server gives up on a reader some 11,000 replies behind

# In a process of its own: what libzmq asserts ends the process.
UNREAD = """
import sys, time, zmq
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.server_sockets import ServerSockets
sockets = ServerSockets(Addresses.of(sys.argv[1]))
context = zmq.Context()
peer = context.socket(zmq.DEALER)
peer.setsockopt(zmq.LINGER, 0)
peer.connect(sys.argv[1])
try:
    while True:
        peer.send(b"x" * 1000, zmq.NOBLOCK)
except zmq.Again:
    time.sleep(0.2)
peer.close()
context.term()
time.sleep(1.5)  # a heartbeat was due after one second
sockets.close()
print("closed")
"""

# What a client has not taken yet fills its queue, and its connection is no longer read, when the server goes and comes.
FLOODED = """
import sys, time, zmq
from flexor.runtime.serving.channel import Channel
from flexor.runtime.serving.wire import Message, encode
context = zmq.Context()
def serve():
    server = context.socket(zmq.ROUTER)
    server.setsockopt(zmq.LINGER, 0)
    server.setsockopt(zmq.RCVTIMEO, 20_000)
    server.setsockopt(zmq.SNDHWM, 10_000)
    server.bind(sys.argv[1])
    return server
def answer(server, name, number):
    server.send_multipart([name, *encode(Message("ok", number))])
server = serve()
client = Channel(sys.argv[1], 20.0, context)
asked = client.ask("hello")
client.receive(0.5)  # sends it once there is a connection
name = server.recv_multipart()[0]
for _ in range(6000):
    answer(server, name, 999)
time.sleep(0.3)
server.close()
time.sleep(1.5)  # a heartbeat would have been due after one second
server = serve()
asked = client.ask("hello")
client.receive(0.5)
name = server.recv_multipart()[0]
answer(server, name, asked)
print(client.wait(asked).message.type)
client.close()
server.close()
context.term()
"""


def hello_frames(number: int) -> list[bytes]:
    return [bytes(frame) for frame in encode(Message("hello", number))]


def infer_frames(number: int) -> list[bytes]:
    request = InferRequest("never reads", number, 1000.0, 0, None, observation(), None)
    return [bytes(frame) for frame in encode(Message("infer", number, request.fields(), request.arrays()))]


@pytest.mark.parametrize("question", [hello_frames, infer_frames], ids=["hello", "infer"])
def test_a_client_that_never_reads_does_not_stop_the_others(
    question: Callable[[int], list[bytes]],
    policy: FakePolicy,
    start: Callable[..., PolicyServer],
    connect: Callable[..., PolicyClient],
    address: str,
    context: zmq.Context[Any],
) -> None:
    server = start(policy)
    served = connect()
    never_reads: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    never_reads.setsockopt(zmq.RCVHWM, 1)
    never_reads.setsockopt(zmq.LINGER, 0)
    never_reads.setsockopt(zmq.SNDTIMEO, round(1000 * TIMEOUT_S))  # the server goes on reading what it asks
    never_reads.connect(address)
    try:
        with ServerControl(address, TIMEOUT_S, context) as control:
            for number in range(ROUNDS):
                for count in range(ASKED_A_ROUND):
                    never_reads.send_multipart(question(number * ASKED_A_ROUND + count))
                assert served.infer(observation(float(number)), step=number).actions[0, 0] == number
                if control.stats()["undeliverable"]:
                    break
            else:
                pytest.fail("the reader was never so far behind that the server gave up on it")
        for number in range(5):  # and go on being served while it is clogged
            assert served.infer(observation(float(number))).actions[0, 0] == number
    finally:
        never_reads.close()
    server.stop()
    stats = server.stats()
    assert sum(stats["received"].values()) == sum(stats["replies"].values())


def test_a_peer_that_floods_and_is_gone_before_it_is_read_does_not_end_the_process(address: str) -> None:
    child = subprocess.run([sys.executable, "-c", UNREAD, address], capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stdout) == (0, "closed\n"), child.stderr


def test_a_client_that_is_flooded_while_its_server_goes_and_comes_back_still_lives(address: str) -> None:
    child = subprocess.run([sys.executable, "-c", FLOODED, address], capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stdout) == (0, "ok\n"), child.stderr
