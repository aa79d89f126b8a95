"""Slack entropy: scored after the reply, only in the slack, told with the session's next reply and as an event."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import zmq
from fake_policy import FakePolicy, next_reply, observation

from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.events import EventReader
from flexor.runtime.serving.server import PolicyServer

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
TIMEOUT_S = 20.0


def listening(events: EventReader, client: PolicyClient) -> None:
    """Return when the subscription has reached the server: ask until an event comes."""
    for step in range(200):
        client.infer(observation(), step=step % 40)
        if events.poll(0.1) is not None:
            while events.poll(0.1) is not None:
                pass
            return
    raise AssertionError("no event ever came")


def test_slack_scores_ride_in_the_next_reply_of_the_session(
    policy: FakePolicy, start: Start, connect: Connect, address: str, context: zmq.Context[Any]
) -> None:
    with EventReader(address, ("score",), context) as events:
        start(policy)
        mine, other = connect(), connect()
        listening(events, mine)
        mine.ask(observation(), step=40, noise_seed=3)
        first = next_reply(mine)
        assert first.scored_step is None or first.scored_step < 40
        assert first.chunk is not None
        event = events.poll(TIMEOUT_S)
        while event is not None and event.fields["step"] != 40:
            event = events.poll(TIMEOUT_S)
        assert event is not None
        assert event.fields["scores"] == {"ace_bits": 1.5, "gauss_nats": 3.0}
        other.ask(observation(), step=1)
        assert next_reply(other).scored_step is None
        mine.ask(observation(), step=45)
        second = next_reply(mine)
        assert second.scored_step == 40
        assert second.chunk is not None
        assert second.chunk.scores == {"accel": 0.25, "ace_bits": 1.5, "gauss_nats": 3.0}


def test_no_score_is_computed_while_a_request_waits(policy: FakePolicy, start: Start, connect: Connect) -> None:
    policy.gate.clear()
    server = start(policy)
    first, second = connect(greet=True), connect(greet=True)
    first.ask(observation(), step=0, noise_seed=1)
    policy.await_infer()
    second.ask(observation(), step=0, noise_seed=2)
    second.hello()  # its observation waits by now
    policy.gate.set()
    assert next_reply(first).type == "chunk"
    assert next_reply(second).type == "chunk"
    server.stop()
    assert 1 not in policy.surprised


def test_entropy_can_be_switched_off(policy: FakePolicy, start: Start, connect: Connect) -> None:
    server = start(policy, entropy="never")
    connect().infer(observation())
    server.stop()
    assert policy.surprised == []


def test_a_chunk_that_cannot_be_scored_is_announced_and_the_server_lives(
    policy: FakePolicy, start: Start, connect: Connect, address: str, context: zmq.Context[Any]
) -> None:
    with EventReader(address, ("score", "unscored"), context) as events:
        start(policy)
        client = connect()
        listening(events, client)
        assert client.infer(observation(prompt="unscorable"), step=77).actions.shape == (10, 7)
        event = events.poll(TIMEOUT_S)
        assert event is not None
        assert (event.type, event.fields["step"]) == ("unscored", 77)
        assert "no samples" in event.fields["message"]
        assert client.infer(observation()).actions.shape == (10, 7)


def test_a_score_that_comes_after_its_episode_does_not_reach_the_next_one(
    policy: FakePolicy, start: Start, connect: Connect, address: str, context: zmq.Context[Any]
) -> None:
    with EventReader(address, ("score",), context) as events:
        start(policy)
        client = connect()
        listening(events, client)
        client.begin_episode("first")
        policy.slack.clear()
        client.infer(observation(), step=140)
        client.end_episode("success")
        client.begin_episode("second")
        policy.slack.set()
        event = events.poll(TIMEOUT_S)
        while event is not None and event.fields["step"] != 140:
            event = events.poll(TIMEOUT_S)
        assert event is not None
        client.ask(observation(), step=0)
        assert next_reply(client).scored_step is None


def test_a_policy_that_complains_at_length_does_not_end_the_server(start: Start, connect: Connect) -> None:
    class Talker(FakePolicy):
        def surprise(self, noise_seed: int) -> dict[str, float]:
            self.surprised.append(noise_seed)
            raise RuntimeError("no samples " * 10_000)

    policy = Talker()
    server = start(policy)
    client = connect()
    for step in range(200):
        client.infer(observation(), step=step)
        if len(policy.surprised) >= 2:  # the first one was announced before the second one began
            break
        time.sleep(0.01)
    assert len(policy.surprised) >= 2
    server.stop()
