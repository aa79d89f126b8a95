"""Engines beside each other: each in a process of its own, each call in turn, the same inputs.

Run as a program it is one of these processes: it reads {bundle, compiled, threads, flow_steps, image_size} from the
first line of its standard input, writes what it loaded, then answers every further line, the number of a question, with
its times.
"""

from __future__ import annotations

import json
import resource
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

WARM_UP_CALLS = OBSERVATIONS  # each question once: what is compiled is compiled anew for another length of prompt


@dataclass(slots=True)
class EngineTimes:
    """One engine: what it is and took to load (facts), and the milliseconds of each call's two programs."""

    facts: dict[str, Any]
    encode_ms: list[float] = field(default_factory=list)
    denoise_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A bundle in the engine that fits it; weights may be compiled by torch.compile instead."""

    bundle: str
    compiled: bool = False


def time_engines(
    entrants: Sequence[Entrant],
    threads: int,
    flow_steps: int | None,
    n: int,
    image_size: int,
    told: Callable[[int], None],
) -> list[EngineTimes]:
    """Time n chunks of each entrant, one call of each in turn; flow_steps are for bundles of weights.

    facts are those of `Policy.describe`, bundle_flow_steps (the bundle's own), start_s (from starting the process to
    its first chunk), memory_mb (resident, after warming up) and size_mb (the bundle's files).

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
            asked = {"threads": threads, "flow_steps": flow_steps, "image_size": image_size}
            facts = _tell(child, json.dumps({**asdict(entrant), **asked}))
            children.append((child, EngineTimes({**facts, "start_s": time.perf_counter() - began})))
        for call in range(-WARM_UP_CALLS, n):
            for child, times in children:
                answer = _tell(child, str(call))
                if call >= 0:
                    times.encode_ms.append(answer["encode_ms"])
                    times.denoise_ms.append(answer["denoise_ms"])
            told(max(call + 1, 0))
        for child, times in children:
            times.facts["memory_mb"] = _tell(child, "memory")["memory_mb"]
    return [times for _, times in children]


def _tell(child: subprocess.Popen[str], line: str) -> dict[str, Any]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(line + "\n")
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
        if line.strip() == "memory":
            print(json.dumps({"memory_mb": _resident_mb()}), flush=True)
            continue
        call = int(line)
        timing = policy.infer(questions[call % len(questions)], abs(call)).timing_ms
        print(json.dumps({"encode_ms": timing["encode"], "denoise_ms": timing["denoise"]}), flush=True)


def _open(asked: Mapping[str, Any]) -> tuple[Bundle, Engine]:
    """What an entrant computes with.

    Raises:
        FlexorError: it cannot be opened, or graphs that shall be compiled.
    """
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine

    bundle = Bundle.open(asked["bundle"])
    if not asked["compiled"]:
        steps = None if bundle.config.graphs else asked["flow_steps"]
        return bundle, open_engine(bundle, threads=asked["threads"], flow_steps=steps, force=True)
    if bundle.config.graphs is not None:
        raise FlexorError(f"{bundle.id} holds graphs; torch.compile is for a bundle of weights: name one first")
    from flexor.runtime.timing.torch_compiled import CompiledEngine

    return bundle, CompiledEngine(bundle, asked["threads"], asked["flow_steps"] or bundle.config.flow_steps)


def _resident_mb() -> float:
    with open("/proc/self/statm") as memory:
        return int(memory.read().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    _serve()
