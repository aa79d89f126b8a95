"""Swap traffic: adapters pushed into a server process that is asked steadily, and what the asker notices of them."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flexor.errors import FlexorError
from flexor.flywheel.server_process import START_LIMIT_S, ServerProcess
from flexor.pi05.config import Pi05Config
from flexor.pi05.lora import Factors, pack
from flexor.pi05.lora_targets import PAIRS, Pairs, target_sizes
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.policy import Policy
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.events import EventReader
from flexor.runtime.timing.steady_client import NOISE_SEED, Asked, SteadyClient, observations

AROUND, LEAD = 20, 5
"""Requests that count as around a swap, and how many of them were asked before it was ordered."""
APART = 2 * AROUND
"""Requests from one swap to the next order."""
RANK, ALPHA, SIZE = 8, 32.0, 0.05
"""Of the adapters; size: of a number of the change, beside one of a weight drawn from N(0, 1 / in)."""
ORDER_TIMEOUT_S, ACTIVE_TIMEOUT_S = 60.0, 60.0
OPEN = (
    "canary_episodes=0",
    "swap=chunk",
    "max_change=1e9",
    "max_difference=1e9",
    "latency_ratio=1e9",
    "alarm_rate=0.99",
)
"""Settings of adapters under which random ones come into service and stay there: no trial but the shadow."""
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Swap:
    """One adapter's way into service, on the monotonic clock: ordered, verified and loaded, active."""

    adapter: str
    ordered_s: float
    loaded_s: float
    active_s: float


def measure_swap_traffic(
    bundle: Bundle, arguments: Sequence[str], cold: Callable[[], Policy], swaps: int, hz: float, told: Told
) -> dict[str, Any]:
    """Push adapters, of two kinds in turn, at a server that is asked all the time.

    Args:
        bundle: that is served.
        arguments: of `flexor serve`, besides: engine, precision, threads.
        cold: opens the same policy in this process; it has never held an adapter.
        swaps: adapters; each is shadowed on live requests, as a learner's is, and then active at the next chunk.
        hz: requests a second.
        told: hears of each piece of work: what, done, of how many.

    Returns:
        swaps, hz, requests; lost: requests that ended without a chunk, and lost_told: how many by what they were told;
        around_* and elsewhere_* p50_ms, p99_ms, n: replies to the requests around the swaps (LEAD before the order,
        AROUND in all, or until LEAD after the swap where it takes longer) and to the others; p50_ratio, p99_ratio;
        first_chunk_ms: median of what the engine takes longer for the first chunk of a new adapter than for the one
        after it; load_ms: median from the order until it was verified and loaded; active_ms: until it was active;
        max_diff_cold: largest difference of any chunk to that of the cold policy with the adapter it names.

    Raises:
        FlexorError: the server or the client failed, or an adapter did not become active in time.
    """
    config, period_s = bundle.config, 1.0 / hz
    kinds = [random_factors(bundle.model_config, seed, bundle.adapter_pairs) for seed in (0, 1)]
    with tempfile.TemporaryDirectory(prefix="flexor-bench-") as folder:
        root = Path(folder) / "adapters"
        names = [
            write_adapter(root, kinds[number % 2], bundle, rank=RANK, alpha=ALPHA, version=number + 1).name
            for number in range(swaps)
        ]
        settings = [f"adapters.{setting}" for setting in OPEN]
        with ServerProcess(str(bundle.path), ["--adapters", str(root), *arguments, *settings]) as server:
            told("starting a server", 0, swaps)
            server.wait_ready(START_LIMIT_S)
            with SteadyClient(server.address, config.cameras, config.state_dim, period_s) as client:
                done = []
                with EventReader(server.address, ["adapter"]) as events:
                    for name in names:
                        time.sleep(APART * period_s)
                        server.check()
                        client.check()
                        done.append(_push(server.address, events, name))
                        told("swapping under requests", len(done), swaps)
                    time.sleep(APART * period_s)
                asked = client.finish()
    told("comparing with a cold load", 0, 1)
    return {
        "swaps": swaps,
        "hz": hz,
        **summary(asked, done),
        "max_diff_cold": _difference(bundle, cold(), kinds, asked),
    }


def random_factors(config: Pi05Config, seed: int, pairs: Pairs = PAIRS) -> Factors:
    """Factors of all projections of `pairs` that move actions, as `write_adapter` takes them."""
    generator = np.random.default_rng(seed)
    return {
        name: (
            generator.normal(0.0, inputs**-0.5, (RANK, inputs)).astype(np.float32),
            generator.normal(0.0, SIZE * RANK**0.5 / ALPHA, (outputs, RANK)).astype(np.float32),
        )
        for name, (inputs, outputs) in target_sizes(config, pairs).items()
    }


def summary(asked: Sequence[Asked], swaps: Sequence[Swap]) -> dict[str, Any]:
    """The numbers of `measure_swap_traffic` that follow from requests, in order, and swaps."""
    around = np.zeros(len(asked), bool)
    slower = []
    for swap in swaps:
        start, stop = _window(asked, swap)
        around[start:stop] = True
        first = next((place for place, request in enumerate(asked) if request.adapter == swap.adapter), None)
        if first is not None and first + 1 < len(asked):
            slower.append(asked[first].engine_ms - asked[first + 1].engine_ms)
    answered = np.array([request.told == "chunk" for request in asked], bool)
    replies = np.array([request.reply_ms for request in asked])
    found: dict[str, Any] = {}
    for name, chosen in (("around", around & answered), ("elsewhere", ~around & answered)):
        p50, p99 = np.percentile(replies[chosen], (50, 99)) if chosen.any() else (np.nan, np.nan)
        found |= {f"{name}_n": int(chosen.sum()), f"{name}_p50_ms": float(p50), f"{name}_p99_ms": float(p99)}
    lost = Counter(request.told for request in asked if request.told != "chunk")
    return {
        "requests": len(asked),
        "lost": sum(lost.values()),
        "lost_told": dict(lost),
        **found,
        "p50_ratio": found["around_p50_ms"] / found["elsewhere_p50_ms"],
        "p99_ratio": found["around_p99_ms"] / found["elsewhere_p99_ms"],
        "first_chunk_ms": float(np.median(slower)) if slower else None,
        "load_ms": float(np.median([1000.0 * (swap.loaded_s - swap.ordered_s) for swap in swaps])),
        "active_ms": float(np.median([1000.0 * (swap.active_s - swap.ordered_s) for swap in swaps])),
    }


def _window(asked: Sequence[Asked], swap: Swap) -> tuple[int, int]:
    """The requests around a swap: the first of them, and the one after the last."""
    under_way = sum(request.ended_s <= swap.ordered_s for request in asked)
    over = sum(request.began_s <= swap.active_s for request in asked)
    start = max(0, under_way - LEAD)
    return start, max(start + AROUND, over + LEAD)


def _push(address: str, events: EventReader, name: str) -> Swap:
    """Push an adapter and wait until it is active."""
    with ServerControl(address, ORDER_TIMEOUT_S) as control:
        ordered = time.monotonic()
        control.order("push", name)
    loaded = time.monotonic()
    while (left := loaded + ACTIVE_TIMEOUT_S - time.monotonic()) > 0:
        event = events.poll(left)
        if event is None or event.fields["adapter"] != name:
            continue
        if event.fields["state"] == "ACTIVE":
            return Swap(name, ordered, loaded, time.monotonic())
        if event.fields["state"] == "REJECTED":
            raise FlexorError(f"adapter {name} was rejected: {event.fields['reason']}: {event.fields['told']}")
    raise FlexorError(
        f"adapter {name} is not active {ACTIVE_TIMEOUT_S:g} s after it was pushed; a server that is asked without a "
        "pause finds no time to shadow it: ask less often (--hz)"
    )


def _difference(bundle: Bundle, policy: Policy, kinds: Sequence[Factors], asked: Sequence[Asked]) -> float:
    """The largest difference of any chunk to the cold policy's, which loads each kind into a slot of its own."""
    config = bundle.config
    for slot, factors in enumerate(kinds, 1):
        policy.load_slot(slot, pack(bundle.model_config, factors, ALPHA / RANK, RANK))
    seen = observations(config.cameras, config.state_dim)
    known: dict[tuple[int, int], np.ndarray] = {}
    largest = 0.0
    for request in asked:
        if request.told != "chunk":
            continue
        slot = 0 if request.adapter == "base" else 1 + (int(request.adapter.partition("-")[0]) - 1) % 2
        key = (request.observation, slot)
        if key not in known:
            known[key] = policy.infer(seen[request.observation], NOISE_SEED, None, slot).actions
        largest = max(largest, float(np.abs(np.asarray(request.actions, np.float32) - known[key]).max()))
    return largest
