"""learner.slack: granted when the engine has nothing to do, and never in the way of a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from fake_policy import FakePolicy, next_reply, observation

from flexor.learner.slack import WORKS, ServerSlack
from flexor.runtime.serving.address import Addresses
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl, Slack
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.slack_desk import BETWEEN_EPISODES_MS, IN_EPISODE_MS
from flexor.runtime.serving.wire import Message, encode

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
LONG_MS = 20_000.0
SHORT_MS = 50.0
NONE = Slack(False, 0)


@pytest.fixture
def learner(address: str, context: zmq.Context[Any]) -> Iterator[ServerControl]:
    with ServerControl(address, 2 * LONG_MS / 1000.0, context) as control:
        yield control


def test_an_idle_server_grants_at_once_and_longer_between_episodes(
    policy: FakePolicy, start: Start, connect: Connect, learner: ServerControl
) -> None:
    start(policy)
    robot = connect()
    assert learner.slack(LONG_MS) == Slack(True, BETWEEN_EPISODES_MS)
    robot.begin_episode("stack")
    assert learner.slack(LONG_MS) == Slack(True, IN_EPISODE_MS)
    robot.end_episode("success")
    assert learner.slack(LONG_MS) == Slack(True, BETWEEN_EPISODES_MS)
    assert IN_EPISODE_MS < BETWEEN_EPISODES_MS


def test_none_is_granted_while_a_request_is_computed_and_it_comes_as_soon_as_that_is_over(
    policy: FakePolicy, start: Start, connect: Connect, learner: ServerControl
) -> None:
    policy.gate.clear()
    start(policy, entropy="never")
    robot = connect(greet=True)
    robot.ask(observation(), step=0)
    policy.await_infer()
    assert learner.slack(SHORT_MS) == NONE
    opening = threading.Timer(0.2, policy.gate.set)
    opening.start()
    assert learner.slack(LONG_MS).granted
    assert policy.gate.is_set()
    assert next_reply(robot).type == "chunk"
    opening.join()


def test_none_is_granted_while_a_chunk_is_still_to_be_scored(
    policy: FakePolicy, start: Start, connect: Connect, learner: ServerControl
) -> None:
    policy.slack.clear()
    start(policy)
    connect().infer(observation())
    assert learner.slack(SHORT_MS) == NONE
    policy.slack.set()
    assert learner.slack(LONG_MS).granted
    assert policy.surprised


def test_none_is_granted_before_the_policy_is_warm(policy: FakePolicy, start: Start, learner: ServerControl) -> None:
    policy.warm.clear()
    start(policy, ready=False)
    assert learner.slack(SHORT_MS) == NONE
    policy.warm.set()
    assert learner.slack(LONG_MS).granted


def test_a_request_is_answered_while_a_learner_holds_a_grant(
    policy: FakePolicy, start: Start, connect: Connect, learner: ServerControl
) -> None:
    start(policy)
    robot = connect()
    robot.begin_episode("stack")
    assert learner.slack(LONG_MS).granted  # and never says that it is done
    for step in range(5):
        assert robot.infer(observation(), step=step).actions.shape == (10, 7)


def test_learners_that_ask_and_are_gone_leave_the_server_as_it_was(
    policy: FakePolicy, start: Start, connect: Connect, learner: ServerControl, address: str, context: zmq.Context[Any]
) -> None:
    policy.gate.clear()
    start(policy, entropy="never")
    robot = connect(greet=True)
    robot.ask(observation(), step=0)
    policy.await_infer()
    gone = context.socket(zmq.DEALER)
    gone.connect(Addresses.of(address).control)
    for number in range(20):
        gone.send_multipart(encode(Message("learner.slack", number, {"wait_ms": LONG_MS})))
    refused = [gone.recv_multipart() for _ in range(12) if gone.poll(10_000)]
    assert len(refused) == 12  # eight may wait
    gone.close(linger=0)
    assert learner.stats()["received"]["learner.slack"] == 20
    policy.gate.set()
    assert next_reply(robot).type == "chunk"
    assert learner.slack(LONG_MS).granted
    assert robot.infer(observation(), step=1).actions.shape == (10, 7)


def test_a_server_that_stops_lets_no_learner_wait(
    policy: FakePolicy, start: Start, connect: Connect, learner: ServerControl
) -> None:
    policy.gate.clear()
    server = start(policy)
    robot = connect(greet=True)
    robot.ask(observation(), step=0)
    policy.await_infer()
    stopping = threading.Timer(0.2, server._started().stop)
    stopping.start()
    assert learner.slack(LONG_MS) == NONE
    policy.gate.set()
    stopping.join()


def test_the_learners_pause_ends_with_the_request_that_it_waits_for(
    policy: FakePolicy, start: Start, connect: Connect, address: str
) -> None:
    told: list[str] = []
    policy.gate.clear()
    start(policy, entropy="never")
    robot = connect(greet=True)
    with ServerSlack(address, told.append, wait_s=0.05) as pause:
        robot.ask(observation(), step=0)
        policy.await_infer()
        opening = threading.Timer(0.3, policy.gate.set)  # several waits later
        opening.start()
        pause()
        assert policy.gate.is_set()
        pause()
        opening.join()
    assert next_reply(robot).type == "chunk"
    assert told == []


def test_without_its_server_the_learner_goes_on_and_says_so_once_and_again_when_it_is_back(
    policy: FakePolicy, start: Start, address: str
) -> None:
    told: list[str] = []
    with ServerSlack(address, told.append, wait_s=0.05, retry_s=0.0) as pause:
        for _ in range(3):
            pause()
        assert len(told) == 1 and "goes on without" in told[0]
        start(policy)
        for _ in range(100):
            pause()
            if len(told) > 1:
                break
        assert len(told) == 2 and "answers again" in told[1]


def test_work_that_takes_longer_than_is_granted_for_it_is_told_once(
    policy: FakePolicy, start: Start, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("flexor.runtime.serving.slack_desk.BETWEEN_EPISODES_MS", 1)
    start(policy)
    with ServerSlack(address, told.append) as pause:
        for _ in range(3 * WORKS):
            pause()
            time.sleep(0.002)
    assert len(told) == 1 and "1 are granted" in told[0]


def test_a_learner_that_is_to_stop_does_not_wait_for_slack(
    policy: FakePolicy, start: Start, connect: Connect, address: str
) -> None:
    policy.gate.clear()
    start(policy)
    robot = connect(greet=True)
    robot.ask(observation(), step=0)
    policy.await_infer()
    with ServerSlack(address, wait_s=0.05, stop=lambda: True) as pause:
        pause()
    assert not policy.gate.is_set()
