"""Roofline: how long a call takes, and how long it has to take on this machine, whoever computes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from flexor.pi05.config import PRESETS, Pi05Config
from flexor.pi05.cost import Cost, call_cost
from flexor.pi05.footprint import WEIGHT_BYTES
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05
from flexor.pi05.program import Program
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.timing.latency import Percentiles
from flexor.runtime.timing.torch_machine import MachineSpeed, measure_machine, synchronise

WARM_UP = 2
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What is timed.

    Attributes:
        preset: name of the sizes; weights are random.
        prefix, expert: precisions of the programs.
        views: cameras.
        tokens: of the prompt.
        horizon: actions of a chunk.
        steps: of the flow.
        samples: chunks on one prefix.
    """

    preset: str
    prefix: str
    expert: str
    views: int
    tokens: int
    horizon: int
    steps: int
    samples: int

    @property
    def config(self) -> Pi05Config:
        """The sizes.

        Raises:
            EngineError: no such preset, or a prompt that is longer than its longest.
        """
        if self.preset not in PRESETS:
            raise EngineError(f"preset {self.preset!r} is unknown; there are {', '.join(PRESETS)}")
        config = replace(PRESETS[self.preset], horizon=self.horizon)
        if not 1 <= self.tokens <= config.max_prompt_tokens:
            raise EngineError(f"tokens is {self.tokens}; {self.preset} takes 1 to {config.max_prompt_tokens}")
        return config


def measure_roofline(question: Question, n: int, told: Told) -> dict[str, Any]:
    """Time n calls of a model with random weights, on the first GPU where there is one, else on the CPU.

    The machine is measured first. The floor is, phase by phase, the larger of operations at its rate of multiplying
    and bytes at its rate of copying.

    Args:
        told: hears of each piece of work: what, done, of how many.

    Returns:
        floor_ms, p50_ms, p95_ms, p99_ms, ratio (p50 to floor), n, phases (per phase flops, bytes, floor_ms, p50_ms; of
        vision and prefix together the time is one), copy_gb_s, gflops (by precision), provider.

    Raises:
        EngineError: as Question.config.
    """
    config = question.config
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    told("measuring the machine", 0, n)
    machine = measure_machine({question.prefix, question.expert}, device)
    told(f"drawing {config.parameter_count():,} weights", 0, n)
    program = _random_program(question, config, device)
    encode_ms, denoise_ms = _time(program, question, config, device, n, told)
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


def _random_program(question: Question, config: Pi05Config, device: torch.device) -> Program:
    """Weights are drawn in the narrower of the two precisions' own dtypes, so that they fit where the programs fit."""
    narrow = "fp32" not in (question.prefix, question.expert)
    with torch.device("meta"):
        model = Pi05(config)
    model = model.to(torch.bfloat16 if narrow else torch.float32).to_empty(device=device)
    randomise(model, 0)
    return Program(model.eval().requires_grad_(False), question.steps, question.prefix, question.expert)


def _time(
    program: Program, question: Question, config: Pi05Config, device: torch.device, n: int, told: Told
) -> tuple[list[float], list[float]]:
    generator = torch.Generator().manual_seed(0)
    size = config.vision.image_size
    images = torch.rand(question.views, 3, size, size, generator=generator) * 2 - 1
    tokens = torch.randint(0, config.vocab_size, (question.tokens,), generator=generator)
    noise = torch.randn(question.samples, question.horizon, config.action_dim, generator=generator)
    encode_ms: list[float] = []
    denoise_ms: list[float] = []
    for call in range(WARM_UP + n):
        synchronise(device)
        began = time.perf_counter()
        prefix = program.encode(images.to(device), tokens.to(device))
        synchronise(device)
        encoded = time.perf_counter()
        actions, _ = program.denoise(prefix, noise.to(device))
        actions.cpu()
        ended = time.perf_counter()
        if call >= WARM_UP:
            encode_ms.append(1000 * (encoded - began))
            denoise_ms.append(1000 * (ended - encoded))
        told("timing calls", max(0, call + 1 - WARM_UP), n)
    return encode_ms, denoise_ms
