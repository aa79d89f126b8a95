"""Sessions: how their episodes end, and what becomes of a client that is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from fake_policy import FakePolicy, observation

from flexor.runtime.serving.channel import ServerRefused
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.events import EventReader
from flexor.runtime.serving.server import PolicyServer

Start = Callable[..., PolicyServer]
Connect = Callable[..., PolicyClient]
TIMEOUT_S = 20.0


def test_episodes_are_counted_by_their_outcome(
    policy: FakePolicy, start: Start, connect: Connect, address: str, context: zmq.Context[Any]
) -> None:
    start(policy)
    client = connect()
    assert client.begin_episode("stack", seed=4) == "base"
    client.end_episode("success")
    client.begin_episode("stack")
    client.begin_episode("stack")
    client.end_episode("failure", "grasp_slip", "operator")
    with pytest.raises(ServerRefused) as caught:
        client.end_episode("success")
    assert caught.value.code == "no_episode"
    with ServerControl(address, TIMEOUT_S, context) as control:
        assert control.stats()["episodes"] == {"success": 1, "unknown": 1, "failure": 1}


def test_an_episode_may_end_only_in_a_known_way(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy)
    client = connect()
    client.begin_episode("stack")
    with pytest.raises(ServerRefused, match="success, failure, abort, unknown"):
        client.end_episode("splendid")


def test_a_session_that_says_nothing_any_more_is_forgotten_and_its_episode_is_announced_as_unknown(
    policy: FakePolicy, start: Start, connect: Connect, address: str, context: zmq.Context[Any]
) -> None:
    start(policy, idle_limit_s=0.3)
    with (
        EventReader(address, ("episode.end",), context) as events,
        ServerControl(address, TIMEOUT_S, context) as control,
    ):
        for _ in range(50):  # until the subscription has reached the server
            gone = connect()
            gone.begin_episode("stack")
            gone.close()
            if (event := events.poll(2.0)) is not None:
                break
        assert event is not None
        assert (event.fields["session"], event.fields["task"]) == (gone.session, "stack")
        assert (event.fields["outcome"], event.fields["source"]) == ("unknown", "server")
        stats = control.stats()
    assert stats["sessions"] == 0
    assert set(stats["episodes"]) == {"unknown"}


def test_a_session_that_goes_on_asking_keeps_its_episode(policy: FakePolicy, start: Start, connect: Connect) -> None:
    start(policy, idle_limit_s=1.5)
    client = connect()
    client.begin_episode("stack")
    began = time.monotonic()
    while time.monotonic() < began + 2.5:
        client.infer(observation())
    client.end_episode("success")


def test_a_forgotten_session_counts_its_open_episode(
    policy: FakePolicy, start: Start, connect: Connect, address: str, context: zmq.Context[Any]
) -> None:
    start(policy, max_sessions=2)
    connect().begin_episode("stack")
    for _ in range(2):
        connect().infer(observation())
    with ServerControl(address, TIMEOUT_S, context) as control:
        stats = control.stats()
    assert stats["sessions"] == 2
    assert stats["episodes"] == {"unknown": 1}
