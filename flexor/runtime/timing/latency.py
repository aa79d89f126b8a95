"""Latency of a policy on synthetic observations: of the engine, of the whole call, and as a client sees it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flexor.runtime.inference.policy import Policy
from flexor.runtime.observation import Observation
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings
from flexor.runtime.timing.reply_timer import ask_from_another_process, engine_ms

READY_TIMEOUT_S = 60.0
Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of n durations, in milliseconds."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Percentiles:
        """Of at least one duration, with linear interpolation."""
        p50, p95, p99 = np.percentile(np.asarray(milliseconds), (50, 95, 99))
        return cls(len(milliseconds), float(p50), float(p95), float(p99))

    def to_dict(self) -> dict[str, Any]:
        """Keys n, p50_ms, p95_ms, p99_ms."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CallTimes:
    """Durations of policy calls in milliseconds: of the engine (encode and denoise) and of the whole call."""

    engine: list[float]
    policy: list[float]


@dataclass(frozen=True, slots=True)
class ReplyTimes:
    """Durations in milliseconds: from asking to the reply in hand, and what of it was not the engine's."""

    reply: list[float]
    overhead: list[float]


def time_calls(policy: Policy, observations: Sequence[Observation], n: int, step: Step) -> CallTimes:
    """Call a warm policy n times, one call after the other; `step` is called after each."""
    times = CallTimes([], [])
    for call in range(n):
        began = time.perf_counter()
        chunk = policy.infer(observations[call % len(observations)], call)
        times.policy.append(1000.0 * (time.perf_counter() - began))
        times.engine.append(engine_ms(chunk))
        step()
    return times


def time_replies(policy: Policy, image_size: int, n: int, slack_entropy: bool, period_s: float) -> ReplyTimes:
    """Serve the policy on a private address to a client in another process that asks n times, once a period.

    Raises:
        ServerError: the server did not get ready.
        FlexorError: the client failed.
    """
    with tempfile.TemporaryDirectory(prefix="flexor-") as folder:
        address = f"ipc://{Path(folder) / 'policy.sock'}"
        with PolicyServer(policy, address, ServerSettings(entropy="slack" if slack_entropy else "never")) as server:
            server.wait_ready(READY_TIMEOUT_S)
            config = policy.bundle.config
            times = ask_from_another_process(address, config.cameras, config.state_dim, image_size, n, period_s)
    return ReplyTimes(times["reply_ms"], [a - b for a, b in zip(times["reply_ms"], times["engine_ms"], strict=True)])
