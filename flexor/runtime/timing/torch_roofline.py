"""Roofline: how long a call takes, and how long it has to take on this machine, whoever computes it."""

from __future__ import annotations

import time
from typing import Any

import torch

from flexor.pi05.cost import Cost, call_cost
from flexor.pi05.footprint import WEIGHT_BYTES
from flexor.pi05.lora import random_adapter
from flexor.pi05.model import Pi05
from flexor.runtime.inference.torch_limits import torch_device
from flexor.runtime.timing.latency import Percentiles
from flexor.runtime.timing.swap import RANK, SIZE, Told
from flexor.runtime.timing.torch_machine import MachineSpeed, measure_machine, synchronise
from flexor.runtime.timing.torch_runner import Question, Runner, draw_model

WARM_UP = 2


def measure_roofline(
    question: Question, n: int, told: Told, model: Pi05 | None = None, machine: MachineSpeed | None = None
) -> dict[str, Any]:
    """Time n calls of a model with random weights, on the first GPU where there is one, else on the CPU.

    The machine is measured first. The floor is, phase by phase, the larger of operations at its rate of multiplying
    and bytes at its rate of copying.

    Args:
        told: hears of each piece of work: what, done, of how many.
        model, machine: drawn and measured before, by `draw_model` and `measure_machine`.

    Returns:
        floor_ms, p50_ms, p95_ms, p99_ms, ratio (p50 to floor), n, phases (per phase flops, bytes, floor_ms, p50_ms; of
        vision and prefix together the time is one), copy_gb_s, gflops (by precision), provider.

    Raises:
        EngineError: as Question.config and Runner.
    """
    config, device = question.config, torch_device()
    if machine is None:
        told("measuring the machine", 0, n)
        machine = measure_machine({question.prefix, question.expert}, device)
    if model is None:
        told(f"drawing {config.parameter_count():,} weights", 0, n)
        model = draw_model(question, device)
    told("preparing the programs", 0, n)
    encode_ms, denoise_ms = _time(Runner(question, model), question, device, n, told)
    cost = call_cost(
        config,
        question.views,
        question.tokens,
        question.steps,
        question.samples,
        WEIGHT_BYTES[question.prefix],
        WEIGHT_BYTES[question.expert],
    )
    floors = {name: 1000 * _floor_s(name, phase, question, machine) for name, phase in cost.items()}
    whole = Percentiles.of([a + b for a, b in zip(encode_ms, denoise_ms, strict=True)])
    halves = {"vision+prefix": Percentiles.of(encode_ms).p50_ms, "expert": Percentiles.of(denoise_ms).p50_ms}
    floor = sum(floors.values())
    return {
        "floor_ms": floor,
        **whole.to_dict(),
        "ratio": whole.p50_ms / floor,
        "phases": {
            name: {"flops": phase.flops, "bytes": phase.bytes, "floor_ms": floors[name]} for name, phase in cost.items()
        },
        "halves_p50_ms": halves,
        "copy_gb_s": machine.bytes_per_s / 1e9,
        "gflops": {name: rate / 1e9 for name, rate in machine.flops_per_s.items()},
        "provider": str(device),
    }


def _floor_s(name: str, phase: Cost, question: Question, machine: MachineSpeed) -> float:
    precision = question.expert if name == "expert" else question.prefix
    return phase.floor_s(machine.flops_per_s[precision], machine.bytes_per_s)


def _time(
    runner: Runner, question: Question, device: torch.device, n: int, told: Told
) -> tuple[list[float], list[float]]:
    slot = int(question.adapter)
    if slot:
        runner.load_slot(slot, random_adapter(question.config, RANK, SIZE, 0))
    encode_ms: list[float] = []
    denoise_ms: list[float] = []
    for call in range(WARM_UP + n):
        synchronise(device)
        began = time.perf_counter()
        runner.encode(slot)
        synchronise(device)
        encoded = time.perf_counter()
        runner.denoise(slot)
        ended = time.perf_counter()
        if call >= WARM_UP:
            encode_ms.append(1000 * (encoded - began))
            denoise_ms.append(1000 * (ended - encoded))
        told("timing calls", max(0, call + 1 - WARM_UP), n)
    return encode_ms, denoise_ms
