"""Sweep: a table of questions to one model of random weights, drawn once, and what swapping an adapter costs it."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flexor.pi05.lora_targets import PAIRS
from flexor.pi05.model import Pi05
from flexor.runtime.environment import environment
from flexor.runtime.inference.torch_limits import torch_device
from flexor.runtime.timing.swap import Told, measure_swap
from flexor.runtime.timing.torch_machine import measure_machine
from flexor.runtime.timing.torch_roofline import measure_roofline
from flexor.runtime.timing.torch_runner import Question, Runner, draw_model

SWAPS = 20


def gpu_questions(preset: str) -> list[Question]:
    """What is worth knowing of a GPU, the most telling first: modes, precisions, views, horizons, samples, adapters."""
    graph = Question(preset, "bf16", "bf16", views=2, tokens=24, horizon=10, steps=10, samples=1, mode="graph")
    adapter, fp8 = replace(graph, adapter=True), replace(graph, prefix="fp8")
    return [
        graph,
        adapter,
        replace(graph, samples=8),
        replace(adapter, samples=8),
        replace(graph, mode="eager"),
        fp8,
        replace(fp8, expert="fp8"),
        replace(graph, mode="compiled"),
        replace(graph, views=3),
        replace(graph, horizon=50),
        replace(graph, tokens=200),
        replace(fp8, mode="compiled"),
        replace(graph, prefix="int8"),
        replace(graph, steps=5),
    ]


def measure_sweep(questions: Sequence[Question], file: Path, n: int, told: Told) -> list[dict[str, Any]]:
    """Time every question as `measure_roofline` does, then swap adapters in the first; one JSON line each, at once.

    A question that fails leaves a line with its error, and the rest goes on. `cosine` is of a recorded program's chunk
    and the same one computed kernel by kernel.

    Args:
        questions: of one preset, all in narrow precisions or none.
        file: appended to.
        n: timed calls of each.

    Returns:
        the lines.
    """
    device, precisions = torch_device(), {part for question in questions for part in (question.prefix, question.expert)}
    told("measuring the machine", 0, len(questions))
    machine = measure_machine(precisions, device)
    told("drawing weights", 0, len(questions))
    model = draw_model(questions[0], device)
    lines = []
    for done, question in enumerate((*questions, None)):
        asked = question or questions[0]
        told(f"{asked.mode} {asked.prefix}+{asked.expert}" if question else "swapping", done, len(questions) + 1)
        try:
            found = _swap(asked, model) if question is None else measure_roofline(asked, n, _silent, model, machine)
            if question is not None:
                found["cosine"] = _cosine(asked, model)
        except Exception as error:  # one kernel that a GPU lacks must not cost the other figures
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        lines.append({**asdict(asked), **found, "env": environment()})
        with file.open("a") as out:
            out.write(json.dumps(lines[-1]) + "\n")
        gc.collect()  # graphs hold their memory until they are gone
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return lines


def _swap(question: Question, model: Pi05) -> dict[str, Any]:
    def runner() -> Runner:
        return Runner(question, model)

    return {"swap": measure_swap(runner(), runner, question.config, PAIRS, SWAPS, _silent)}


def _silent(what: str, done: int, of: int) -> None:
    pass


def _cosine(question: Question, model: Pi05) -> float:
    chunks = [
        Runner(replace(question, mode=mode), model).chunk(0).ravel().astype(np.float64)
        for mode in (question.mode, "eager")
    ]
    return float(chunks[0] @ chunks[1] / np.linalg.norm(chunks[0]) / np.linalg.norm(chunks[1]))
