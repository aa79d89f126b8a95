"""One side of a timing, in a process of its own: builds its models, then answers one call for each name it reads.

python -m pi05.parity.timed reference|ours CONFIG fp32|bf16 THREADS CHECKOUT [compiled]

Of openpi: `published` (three camera slots, the empty one too, and a prompt padded to 200 tokens, all computed) and
`trimmed` (the same code, given only the cameras and tokens that are there), both eager; if asked for, `compiled`:
`published` by torch.compile, as openpi's default configuration has it, whose first call compiles. Of flexor: the
precisions of prefix and expert; in a run of bf16, those of 8 bits too. Lines of JSON on standard output: first what
there is, then an answer a call. Only the model is timed: frames resized, prompts cut to tokens and everything drawn
beforehand.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pi05.parity import ours
from pi05.parity.cases import FLOW_STEPS, Case, encode_words
from torch import Tensor

Calls = dict[str, Callable[[], Tensor]]
"""By name, what makes actions float32 [1, H, A] of the case."""


def build_reference(case: Case, checkout: Path, compiled: bool) -> Calls:
    """openpi's model, in every way of asking it."""
    from pi05.parity.reference import Openpi

    openpi = Openpi(checkout)
    model, noise = openpi.build(case), case.noise()

    def call(whole: bool, sample: Callable[..., Tensor] = model.sample_actions) -> Callable[[], Tensor]:
        observation, _ = openpi.ask(case, encode_words, whole)
        keys = tuple(observation.images)

        def answer() -> Tensor:
            openpi.use_cameras(keys)
            return sample("cpu", observation, noise=noise, num_steps=FLOW_STEPS)

        return answer

    calls = {"published": call(True), "trimmed": call(False)}
    if compiled:
        calls["compiled"] = call(True, torch.compile(model.sample_actions, mode="max-autotune"))
    return calls


def build_ours(case: Case) -> Calls:
    """flexor's programs, all of a process made of one model, whose weights are in memory once."""
    from flexor.pi05.program import Program

    images, tokens = ours.prepare(case, encode_words)
    model, noise = ours.build(case), case.noise()

    def call(prefix: Program, expert: Program) -> Callable[[], Tensor]:
        return lambda: expert.denoise(prefix.encode(images, tokens), noise)[0]

    if case.precision == "fp32":
        exact = Program(model, FLOW_STEPS, release=True)
        return {"fp32": call(exact, exact)}
    quantised = Program(model, FLOW_STEPS, "int8", "bf16")
    narrow = Program(model, FLOW_STEPS, "bf16", "fp32", release=True)
    return {
        "bf16": call(narrow, quantised),
        "bf16+fp32": call(narrow, narrow),
        "int8+bf16": call(quantised, quantised),
        "int8+fp32": call(quantised, narrow),
    }


def main() -> None:
    side, config, precision, threads, checkout, *compiled = sys.argv[1:]
    torch.set_num_threads(int(threads))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the models print is no answer

    def tell(**answer: object) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        answers.write(json.dumps({**answer, "peak_gib": round(peak, 2)}) + "\n")

    case = Case(config, precision, (True, True, False), True)
    begun = time.perf_counter()
    calls = build_reference(case, Path(checkout), bool(compiled)) if side == "reference" else build_ours(case)
    tokens = len(ours.prepare(case, encode_words)[1])
    tell(names=list(calls), built_s=round(time.perf_counter() - begun, 1), tokens=tokens)
    for line in sys.stdin:
        at, busy, begun = time.time(), time.process_time(), time.perf_counter()
        actions = calls[line.strip()]()
        ms, cpu_ms = 1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - busy)
        tell(at=round(at, 1), ms=round(ms, 2), cpu_ms=round(cpu_ms, 2), actions=actions[0].tolist())


if __name__ == "__main__":
    main()
