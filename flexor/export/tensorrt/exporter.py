"""The graphs of a bundle as TensorRT engines, by way of ONNX, with a report of what they are made of."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from flexor.errors import FlexorError
from flexor.export.exporter import PLAIN, Job, Made
from flexor.export.onnx.exporter import CALIBRATED_ON, trace_graphs
from flexor.export.onnx.graph_file import save_graph
from flexor.export.onnx.halve import HALVES, halve
from flexor.export.onnx.quantise import Feeds
from flexor.export.onnx.questions import Question, ask_prefix, make_questions
from flexor.export.onnx.tracing import OPSET
from flexor.export.parity import Parity
from flexor.export.tensorrt.builder import build_engine
from flexor.export.tensorrt.network import TensorrtNetwork
from flexor.export.tensorrt.proof import prove
from flexor.export.tensorrt.quantise import KINDS, quantise_symmetric
from flexor.export.tensorrt.report import EngineReport, as_text
from flexor.export.tensorrt.targets import choose_targets
from flexor.runtime.environment import peak_memory_mb
from flexor.runtime.inference.onnx_session import open_session

REPORT, REPORT_TEXT = "engines.json", "engines.md"


def write_graphs(job: Job, folder: Path) -> Made:
    """Write prefix.engine, expert.engine and the report of both into a folder.

    Where there are recorded observations, the report says how near the ONNX graphs that the engines are built from are
    to float32; 8 bits need them for their scales.

    Raises:
        FlexorError: as choose_targets, TensorrtNetwork and build_engine; or 8 bits, and too few observations.
    """
    wish = job.wish
    library, targets = choose_targets(wish.targets, wish.precision)
    if wish.precision in KINDS and len(job.observations) <= CALIBRATED_ON:
        raise FlexorError(
            f"{wish.precision} needs more than {CALIBRATED_ON} recorded observations, and there are"
            f" {len(job.observations)}; record some: flexor collect"
        )
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as drafts:
        plain = trace_graphs(job, Path(drafts))
        questions = make_questions(replace(job.source, config=job.config), job.observations, wish.rank)
        given = _narrow(job, plain, questions[:CALIBRATED_ON])
        parity, steps = None, job.config.flow_steps if wish.one_step else 1
        if held_out := questions[CALIBRATED_ON if wish.precision in KINDS else 0 :]:
            job.told("asking the ONNX graphs")
            parity = prove(plain, given, held_out, steps)
        reports = []
        for (role, path), name in zip(given.items(), job.graphs.files, strict=True):
            job.told(f"{role}: building for {', '.join(targets)}")
            began, network = time.monotonic(), TensorrtNetwork(library, path)
            exact = wish.precision == PLAIN
            made = build_engine(network, targets, wish.most_samples, exact, wish.timing_cache)
            (folder / name).write_bytes(made)
            reports.append(EngineReport.of(role, network, made.nbytes, time.monotonic() - began))
    built_for = {
        "library": library.name,
        "version": library.version,
        "targets": ",".join(targets),
        "most_samples": str(wish.most_samples),
    }
    _write_report(job, folder, built_for, reports, parity)
    graphs = replace(job.graphs, opset=OPSET, prefix=wish.precision, expert=wish.precision, built_for=built_for)
    return Made(graphs, [report.to_row() for report in reports])


def _narrow(job: Job, plain: Mapping[str, Path], learned: Sequence[Question]) -> dict[str, Path]:
    """Files of the two graphs in the precision that was asked for."""
    precision = job.wish.precision
    if precision == PLAIN:
        return dict(plain)
    recorded: Mapping[str, Sequence[Feeds]] = {role: () for role in plain}
    if precision in KINDS:
        job.told("finding the scales")
        recorded = _recorded(plain["prefix"], learned, job.config.flow_steps if job.wish.one_step else None)
    found = {}
    for role, path in plain.items():
        if precision in HALVES:
            model = onnx.load(path)
            halve(model, precision)
        else:
            model = quantise_symmetric(path, precision, recorded[role])
        found[role] = path.with_name(f"{role}.{precision}.onnx")
        save_graph(model, found[role])
    return found


def _recorded(prefix: Path, learned: Sequence[Question], one_of: int | None) -> dict[str, list[Feeds]]:
    """Inputs of both graphs; `one_of` flow steps where a call of the expert makes one."""
    caches = ask_prefix(open_session(prefix, 1, "cpu"), learned)[0]
    expert = []
    for place, (question, cache) in enumerate(zip(learned, caches, strict=True)):
        step = {} if one_of is None else {"step": np.array([place % one_of])}
        expert.append({**cache, **question.expert, **step})
    return {"prefix": [question.prefix for question in learned], "expert": expert}


def _write_report(
    job: Job,
    folder: Path,
    built_for: Mapping[str, str],
    reports: Sequence[EngineReport],
    parity: Parity | None,
) -> None:
    told: dict[str, Any] = {
        **built_for,
        "precision": job.wish.precision,
        "source": job.source.hash,
        "host_memory_mb": peak_memory_mb(),
        "engines": [report.to_dict() for report in reports],
        "onnx_beside_fp32": None if parity is None else parity.to_dict(),
    }
    (folder / REPORT).write_text(json.dumps(told, indent=1) + "\n")
    title = (
        f"{job.config.name} in {job.wish.precision} for {built_for['targets']}, by {built_for['library']}"
        f" {built_for['version']}"
    )
    (folder / REPORT_TEXT).write_text(as_text(title, reports))
