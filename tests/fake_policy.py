"""A policy of a few lines behind a real server, here or in a process of its own (`fake_policy.py ADDRESS`)."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.preprocessor import BadObservation
from flexor.runtime.observation import ActionChunk, Observation, Provenance
from flexor.runtime.serving.client import PolicyClient, Reply

HORIZON, ACTION_DIM = 10, 7
GATE_TIMEOUT_S = 30.0


class FakePolicy:
    """Answers with actions that spell out what it was asked; the prompt makes it fail on purpose.

    Attributes:
        warm, gate, slack: the tests close them to hold warm_up, infer or surprise; open by default.
        entered: released once for every infer that began.
        seen: prompt of every infer, in order.
    """

    def __init__(self) -> None:
        self.warm, self.gate, self.slack = threading.Event(), threading.Event(), threading.Event()
        for event in (self.warm, self.gate, self.slack):
            event.set()
        self.entered = threading.Semaphore(0)
        self.seen: list[str] = []
        self.surprised: list[int] = []

    def await_infer(self) -> None:
        """Return when one more infer has begun."""
        assert self.entered.acquire(timeout=GATE_TIMEOUT_S)

    def describe(self) -> dict[str, Any]:
        return {"bundle": "fake", "hash": "0" * 64, "cameras": ["base", "wrist"], "horizon": HORIZON, "hz": 20.0}

    def warm_up(self) -> None:
        if not self.warm.wait(GATE_TIMEOUT_S):
            raise RuntimeError("nobody let the policy warm up")

    def infer(
        self, observation: Observation, noise_seed: int, action_prefix: NDArray[np.float32] | None = None
    ) -> ActionChunk:
        self.seen.append(observation.prompt)
        self.entered.release()
        if not self.gate.wait(GATE_TIMEOUT_S):
            raise RuntimeError("nobody opened the gate")
        if not np.isfinite(observation.state).all():
            raise BadObservation("state is not finite at index 0")
        if observation.prompt == "fail":
            raise RuntimeError("the policy tripped")
        if observation.prompt == "exit":
            raise SystemExit("the policy left")
        actions = np.full((HORIZON, ACTION_DIM), observation.state[0], np.float32)
        if observation.prompt == "diverge":
            actions[0, 0] = np.nan
        if action_prefix is not None:
            actions[: len(action_prefix)] = action_prefix
        provenance = Provenance("fake@000000000000", "base", "fake", "cpu", "fp32", 10, noise_seed)
        return ActionChunk(actions, provenance, {"total": 0.5}, {"accel": 0.25})

    def surprise(self, noise_seed: int) -> dict[str, float]:
        if not self.slack.wait(GATE_TIMEOUT_S):
            raise RuntimeError("nobody let the slack go on")
        self.surprised.append(noise_seed)
        if self.seen[-1] == "unscorable":
            raise RuntimeError("no samples")
        return {"ace_bits": 1.5, "gauss_nats": float(noise_seed)}


def observation(value: float = 0.0, prompt: str = "put the cube on the plate", size: int = 16) -> Observation:
    """Two cameras of `size` pixels and a state of 8 numbers, the first of which is `value`."""
    images = {name: np.full((size, size, 3), 7, np.uint8) for name in ("base", "wrist")}
    state = np.zeros(8, np.float32)
    state[0] = value
    return Observation(images, state, prompt)


def next_reply(client: PolicyClient) -> Reply:
    """The next reply to any request of `client`, which must come."""
    reply = client.poll(GATE_TIMEOUT_S)
    assert reply is not None
    return reply


def main(address: str) -> None:
    """Serve until SIGTERM, and say so when ready."""
    from flexor.runtime.serving.server import PolicyServer

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    policy = FakePolicy()
    if "--held" in sys.argv:
        policy.gate.clear()
    with PolicyServer(policy, address) as server:
        server.wait_ready(GATE_TIMEOUT_S)
        print("ready", flush=True)
        stop.wait(120.0)


if __name__ == "__main__":
    main(sys.argv[1])
