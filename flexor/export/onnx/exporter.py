"""The graphs of a bundle as ONNX files."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import onnx

from flexor.errors import FlexorError
from flexor.export.exporter import PLAIN, Job, Made
from flexor.export.onnx.choose import Candidate, choose_graphs
from flexor.export.onnx.graph_file import save_graph, stamp
from flexor.export.onnx.halve import halve
from flexor.export.onnx.layered import LayeredGraphs
from flexor.export.onnx.questions import make_questions
from flexor.export.onnx.tracing import OPSET, trace_graph

CALIBRATED_ON = 32
LEAST_HELD_OUT = 32
LARGE_BYTES = 1 << 31
"""Of weights in float32: those of larger models are never in memory as a whole (flexor.export.onnx.layered)."""


def write_graphs(job: Job, folder: Path) -> Made:
    """Write prefix.onnx and expert.onnx, and large weights beside them, into a folder.

    Raises:
        FlexorError: int8, and too few observations: some are for the scales, the others to choose by; int8 of a model
            above LARGE_BYTES; or fp16, and weights that it cannot hold.
    """
    if job.wish.precision == "int8" and len(job.observations) < CALIBRATED_ON + LEAST_HELD_OUT:
        raise FlexorError(
            f"int8 needs at least {CALIBRATED_ON + LEAST_HELD_OUT} recorded observations, and there are"
            f" {len(job.observations)}; record some: flexor collect"
        )
    if 4 * job.source.model_config.parameter_count() > LARGE_BYTES:
        return _write_layered(job, folder)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as drafts:
        plain = trace_graphs(job, Path(drafts))
        chosen, candidates = plain, list[Candidate]()
        if job.wish.precision == "int8":
            questions = make_questions(replace(job.source, config=job.config), job.observations, job.wish.rank)
            steps = job.config.flow_steps if job.wish.one_step else 1
            chosen, candidates = choose_graphs(plain, questions, CALIBRATED_ON, steps, job.told)
        found = {role: PLAIN if chosen[role] == plain[role] else job.wish.precision for role in plain}
        if job.wish.precision == "fp16":
            found = dict.fromkeys(plain, "fp16")
        graphs = replace(job.graphs, opset=OPSET, **found)
        for (role, path), name in zip(chosen.items(), graphs.files, strict=True):
            model = onnx.load(path)
            if job.wish.precision == "fp16":
                halve(model)
            stamp(model, replace(job.config, graphs=graphs), role, job.ports[role])
            save_graph(model, folder / name)
    return Made(graphs, [candidate.to_dict() for candidate in candidates])


def _write_layered(job: Job, folder: Path) -> Made:
    precision = job.wish.precision
    if precision == "int8":
        raise FlexorError(
            f"{job.source.id} has {job.source.model_config.parameter_count():,} weights, which are written layer by"
            " layer, and 8 bits are chosen by running both graphs in float32; export it with --precision fp16 or fp32"
        )
    layered = LayeredGraphs(job)
    graphs = replace(job.graphs, opset=OPSET, prefix=precision, expert=precision)
    for role, name in zip(job.ports, graphs.files, strict=True):
        job.told(f"{role}: tracing")
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as draft:
            model = layered.trace(role, Path(draft))
        stamp(model, replace(job.config, graphs=graphs), role, job.ports[role])
        layered.write(role, model, folder / name)
    return Made(graphs)


def trace_graphs(job: Job, folder: Path) -> dict[str, Path]:
    """Both graphs in float32, as files of `folder` by their roles."""
    files = {}
    for role, module in job.modules():
        job.told(f"{role}: tracing")
        files[role] = folder / f"{role}.fp32.onnx"
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            traced = trace_graph(module, job.ports[role], Path(draft) / "draft.onnx")
        save_graph(traced, files[role])
    return files
