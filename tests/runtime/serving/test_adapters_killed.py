"""A server that is killed at any step of an adapter's way comes back with the last one that was whole, or the base."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adapter_server
import numpy as np
import pytest
import zmq
from random_adapters import ALPHA, RANK, draw_factors
from telling_process import TellingProcess

from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.adapters.peft_files import MODEL
from flexor.runtime.adapters.store_state import StoreState
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.observation import Observation
from flexor.runtime.serving.channel import ServerRefused, ServerTimeout
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl

PATIENCE_S = 120.0
STATES = ("RECEIVED", "VERIFIED", "STAGED", "SHADOW", "CANARY", "ACTIVE")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def observation() -> Observation:
    images = {name: np.full((32, 32, 3), 90, np.uint8) for name in ("agentview", "wrist")}
    return Observation(images, np.zeros(8, np.float32), "put the red cube on the green plate")


class Killable:
    """A server's process at one address and one directory, and what is asked of it."""

    def __init__(self, bundle: Bundle, folder: Path, context: zmq.Context[Any]) -> None:
        self.bundle, self.root, self.context = bundle, folder / "adapters", context
        self.address = f"ipc://{folder}/policy.sock"
        self.process: TellingProcess | None = None

    def start(self, ready: bool = True, **settings: Any) -> TellingProcess:
        command = [sys.executable, adapter_server.__file__, self.bundle.path, self.address, self.root]
        self.process = TellingProcess([*command, json.dumps(settings)])
        if ready:
            self.process.wait_for("ready")
        return self.process

    def kill(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGKILL)
            self.process.__exit__()
            self.process = None

    def write(self, seed: int, **more: Any) -> str:
        factors = draw_factors(self.bundle.model_config, seed)
        return write_adapter(self.root, factors, self.bundle, rank=RANK, alpha=ALPHA, **more).name

    def order(self, verb: str, name: str | None = None) -> dict[str, Any]:
        with ServerControl(self.address, PATIENCE_S, self.context) as control:
            return control.order(verb, name)

    def served(self) -> str:
        with PolicyClient(self.address, PATIENCE_S, context=self.context, share_memory=False) as client:
            client.wait_ready(PATIENCE_S)
            return client.infer(observation()).provenance.adapter


@pytest.fixture
def server(micro_bundle: Bundle, folder: Path, context: zmq.Context[Any]) -> Iterator[Killable]:
    made = Killable(micro_bundle, folder, context)
    yield made
    made.kill()


def drive_to(server: Killable, name: str, state: str) -> None:
    """Do what brings an adapter into a state, until it is told that it is on disk."""
    assert server.process is not None
    process = server.process

    def there() -> bool:
        return any(line["state"] == state and line["adapter"] == name for line in process.told("state"))

    with (
        ServerControl(server.address, 2.0, server.context) as control,
        PolicyClient(server.address, PATIENCE_S, context=server.context, share_memory=False) as client,
    ):
        try:
            control.order("push", name)
        except (ServerTimeout, ServerRefused):
            assert there()
        while not there():
            adapter = client.begin_episode("stack")
            client.infer(observation())
            client.end_episode("success" if adapter == name else "failure")


@pytest.mark.parametrize("state", STATES)
def test_a_kill_in_any_state_costs_at_most_the_trial(server: Killable, state: str) -> None:
    server.start(canary_episodes=0, shadow_requests=0)
    first = server.write(1)
    server.order("push", first)
    assert server.served() == first
    server.kill()
    server.start()
    assert server.served() == first
    second = server.write(2)
    drive_to(server, second, state)
    server.kill()
    stood = StoreState.read(server.root)
    assert stood.active == (second if state == "ACTIVE" else first)
    process = server.start()
    assert server.served() == stood.active
    if state != "ACTIVE":
        again = [line["state"] for line in process.told("state") if line["adapter"] == second]
        assert again[:3] == ["VERIFIED", "STAGED", "SHADOW"], "the trial begins again"
    assert read_audit(server.root)[1] == 0
    server.order("rollback")
    assert server.served() == first


def test_an_active_adapter_that_no_longer_verifies_makes_room_for_the_base(server: Killable) -> None:
    server.start(canary_episodes=0, shadow_requests=0)
    name = server.write(1)
    server.order("push", name)
    server.kill()
    with (server.root / name / MODEL).open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\0\0\0\1")
    server.start()
    assert server.served() == "base"
    with ServerControl(server.address, PATIENCE_S, server.context) as control:
        row = next(row for row in control.adapters()["adapters"] if row["id"] == name)
    assert (row["state"], row["reason"]) == ("REJECTED", "altered")
    assert "sha256" in row["told"]
