"""Engines beside each other: each in a process of its own, each call in turn, the same inputs.

Run as a program it is one of these processes: it reads {bundle, flow_steps, compiled, threads, image_size} from the
first line of its standard input, writes what it loaded, then answers every further line: the number of a question with
its times, "memory", and "adapters N" with what they cost.
"""

from __future__ import annotations

import json
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from flexor.errors import FlexorError
from flexor.runtime.timing.reply_timer import OBSERVATIONS, synthetic_observations

if TYPE_CHECKING:
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import Engine
    from flexor.runtime.inference.policy import Policy

WARM_UP_CALLS = OBSERVATIONS  # each question once: what is compiled is compiled anew for another length of prompt
ANSWER_S = 900.0  # compiling takes minutes
ADAPTER_COSTS = ("carry_ratio", "engine_ms", "load_ms")
"""Of flexor.runtime.timing.swap.measure_cost."""


@dataclass(slots=True)
class EngineTimes:
    """One engine: what it is and took to load (facts), and the milliseconds of each call's two programs."""

    facts: dict[str, Any]
    encode_ms: list[float] = field(default_factory=list)
    denoise_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A bundle in the engine that fits it, or its weights compiled by torch.compile; None: its own flow steps."""

    bundle: str
    flow_steps: int | None = None
    compiled: bool = False


def line_up(bundles: Sequence[str], flow_steps: Sequence[int], compiled: bool) -> list[Entrant]:
    """Each bundle with each number of flow steps that it can be computed with.

    Weights take any number, graphs of one step those that divide their own; other graphs have one, and take part once.

    Args:
        flow_steps: none for each bundle's own.
        compiled: whether the first bundle's weights, compiled, follow it.

    Raises:
        FlexorError: no such bundle.
    """
    from flexor.runtime.inference.bundle import Bundle

    found = []
    for place, name in enumerate(bundles):
        config = Bundle.open(name).config
        possible: list[int | None] = [*flow_steps]
        if config.graphs is not None:
            possible = [steps for steps in flow_steps if config.graphs.one_step and config.flow_steps % steps == 0]
        possible = possible or [None]
        found += [Entrant(name, steps) for steps in possible]
        if compiled and place == 0:
            found += [Entrant(name, steps, compiled=True) for steps in possible]
    return found


def time_engines(
    entrants: Sequence[Entrant],
    threads: int,
    n: int,
    swaps: int,
    image_size: int,
    told: Callable[[str, int, int], None],
) -> list[EngineTimes]:
    """Time n chunks of each entrant, one call of each in turn; then, one entrant after the other, swap adapters.

    facts are those of `Policy.describe`, bundle_flow_steps (the bundle's own), start_s (from starting the process to
    its first chunk), memory_mb (resident, after warming up), size_mb (the bundle's files) and ADAPTER_COSTS, None of an
    engine that carries no adapter.

    Args:
        swaps: how many; 0 leaves ADAPTER_COSTS None.
        told: hears of each piece of work: what, done, of how many.

    Raises:
        FlexorError: a bundle that its process could not open; the message is that process's own.
    """
    with ExitStack() as stack:
        children = []
        for entrant in entrants:
            command = [sys.executable, "-m", "flexor.runtime.timing.engines"]
            began = time.perf_counter()
            child = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
            stack.callback(child.kill)
            facts = _tell(child, json.dumps({**asdict(entrant), "threads": threads, "image_size": image_size}))
            children.append((child, EngineTimes({**facts, "start_s": time.perf_counter() - began})))
            told("opening", len(children), len(entrants))
        for call in range(-WARM_UP_CALLS, n):
            for child, times in children:
                answer = _tell(child, str(call))
                if call >= 0:
                    times.encode_ms.append(answer["encode_ms"])
                    times.denoise_ms.append(answer["denoise_ms"])
            told("calls", max(call + 1, 0), n)
        for child, times in children:
            times.facts["memory_mb"] = _tell(child, "memory")["memory_mb"]
        for place, (child, times) in enumerate(children, 1):
            costs = _tell(child, f"adapters {swaps}") if swaps else {}
            times.facts |= {key: costs.get(key) for key in ADAPTER_COSTS}
            told("adapters", place, len(children))
    return [times for _, times in children]


def _tell(child: subprocess.Popen[str], line: str) -> dict[str, Any]:
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(line + "\n")
    except BrokenPipeError as error:
        raise FlexorError("the process of an engine ended") from error
    if not select.select([child.stdout], [], [], ANSWER_S)[0]:
        raise FlexorError(f"the process of an engine did not answer within {ANSWER_S:g} s")
    answer = json.loads(child.stdout.readline() or '{"error": "the process of an engine ended"}')
    if "error" in answer:
        raise FlexorError(answer["error"])
    return answer


def _serve() -> None:
    """The child: see the module."""
    from flexor.runtime.inference.policy import Policy

    asked = json.loads(sys.stdin.readline())
    try:
        policy = Policy(*_open(asked))
    except FlexorError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    bundle = policy.bundle
    questions = synthetic_observations(bundle.cameras, bundle.config.state_dim, asked["image_size"])
    policy.infer(questions[0], 0)
    size = sum(file.stat().st_size for file in bundle.path.iterdir() if file.is_file())
    own = {"bundle_flow_steps": bundle.config.flow_steps, "size_mb": size / 1e6}
    print(json.dumps({**policy.describe(), **own}), flush=True)
    for line in sys.stdin:
        question, *counts = line.split()
        if question == "memory":
            answer: Mapping[str, float] = {"memory_mb": _resident_mb()}
        elif question == "adapters":
            answer = _adapter_costs(policy, int(counts[0]))
        else:
            call = int(question)
            timing = policy.infer(questions[call % len(questions)], abs(call)).timing_ms
            answer = {"encode_ms": timing["encode"], "denoise_ms": timing["denoise"]}
        print(json.dumps(answer), flush=True)


def _adapter_costs(policy: Policy, n: int) -> Mapping[str, float]:
    """ADAPTER_COSTS and more; nothing of an engine without slots."""
    from flexor.pi05.lora import random_adapter
    from flexor.runtime.timing.swap import RANK, SIZE, SLOT, WARM_UP, measure_cost
    from flexor.runtime.timing.swap_engine import AskedEngine

    if policy.slots == 1:
        return {}
    graphs = policy.bundle.config.graphs
    rank = RANK if graphs is None else min(RANK, graphs.rank)
    adapters = [random_adapter(policy.bundle.model_config, rank, SIZE, seed) for seed in (0, 1)]
    carrier = AskedEngine(policy.engine, policy.bundle, samples=1)
    for slot in (0, SLOT) * WARM_UP:
        carrier.chunk(slot)
    return measure_cost(carrier, adapters, n, lambda what, done, of: None)


def _open(asked: Mapping[str, Any]) -> tuple[Bundle, Engine]:
    """What an entrant computes with.

    Raises:
        FlexorError: it cannot be opened, or graphs that shall be compiled.
    """
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine

    bundle = Bundle.open(asked["bundle"])
    if not asked["compiled"]:
        return bundle, open_engine(bundle, threads=asked["threads"], flow_steps=asked["flow_steps"], force=True)
    if bundle.config.graphs is not None:
        raise FlexorError(f"{bundle.id} holds graphs; torch.compile is for a bundle of weights: name one first")
    from flexor.runtime.timing.torch_compiled import CompiledEngine

    return bundle, CompiledEngine(bundle, asked["threads"], asked["flow_steps"] or bundle.config.flow_steps)


def _resident_mb() -> float:
    with open("/proc/self/statm") as memory:
        return int(memory.read().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    _serve()
