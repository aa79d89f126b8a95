"""The mailbox: the newest of each session, and one door out for each envelope, whatever the threads do."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter

import pytest
from fake_policy import observation

from flexor.runtime.serving.mailbox import Envelope, Mailbox, MailboxFull
from flexor.runtime.serving.messages import InferRequest
from flexor.runtime.serving.peers import LanePeer

SEEN = observation()
PEER = LanePeer(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0])


def envelope(number: int, session: str, budget_ms: float = 60_000.0) -> Envelope:
    request = InferRequest(session, number, budget_ms, 0, None, SEEN, None)
    return Envelope(PEER, number, request, time.monotonic(), 0)


def test_a_newer_envelope_gives_back_the_older_one_of_its_session() -> None:
    mailbox = Mailbox(4)
    first, second = envelope(1, "a"), envelope(2, "a")
    assert mailbox.put(first) is None
    assert mailbox.put(second) is first
    assert mailbox.take(0.0) is second
    assert mailbox.take(0.0) is None


def test_a_session_that_asks_again_keeps_its_turn() -> None:
    mailbox = Mailbox(4)
    for number, session in enumerate("aba"):
        mailbox.put(envelope(number, session))
    assert [taken.id for _ in range(2) if (taken := mailbox.take(0.0))] == [2, 1]


def test_a_full_mailbox_refuses_a_new_session_but_not_a_newer_observation() -> None:
    mailbox = Mailbox(1)
    older = envelope(1, "a")
    mailbox.put(older)
    with pytest.raises(MailboxFull):
        mailbox.put(envelope(2, "b"))
    assert mailbox.put(envelope(3, "a")) is older


def test_an_outdated_envelope_is_never_taken_and_expires_once() -> None:
    mailbox = Mailbox(4)
    outdated = envelope(1, "a", budget_ms=0.001)
    mailbox.put(outdated)
    assert mailbox.take(0.01) is None
    assert mailbox.expire(time.monotonic()) == [outdated]
    assert mailbox.expire(time.monotonic()) == []
    assert mailbox.next_deadline() is None


def test_closing_gives_back_what_waits_and_takes_nothing_more() -> None:
    mailbox = Mailbox(4)
    waiting = envelope(1, "a")
    mailbox.put(waiting)
    assert mailbox.close() == [waiting]
    with pytest.raises(MailboxFull):
        mailbox.put(envelope(2, "a"))
    assert mailbox.take(30.0) is None


def test_each_envelope_leaves_once_under_many_threads() -> None:
    mailbox = Mailbox(3)
    left: Counter[int] = Counter()
    lock = threading.Lock()

    def leave(*envelopes: Envelope | None) -> None:
        with lock:
            left.update(gone.id for gone in envelopes if gone is not None)

    def produce(worker: int) -> None:
        for number in range(300):
            mine = envelope(worker * 1000 + number, f"s{worker}", budget_ms=0.05 if number % 3 else 60_000.0)
            try:
                leave(mailbox.put(mine))
            except MailboxFull:
                leave(mine)

    def consume() -> None:
        while not mailbox.closed:
            leave(mailbox.take(0.001))

    def outdate() -> None:
        while not mailbox.closed:
            leave(*mailbox.expire(time.monotonic()))

    producers = [threading.Thread(target=produce, args=(worker,)) for worker in range(5)]
    others = [threading.Thread(target=consume), threading.Thread(target=consume), threading.Thread(target=outdate)]
    for thread in producers + others:
        thread.start()
    for thread in producers:
        thread.join(60.0)
    leave(*mailbox.close())
    for thread in others:
        thread.join(60.0)
    assert left == Counter({worker * 1000 + number: 1 for worker in range(5) for number in range(300)})
