"""The graphs of a bundle as PT2 packages: torch.export, then AOTInductor, with what they are as metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch._inductor import aoti_compile_and_package
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler
from torch.export import Dim, export

from flexor.errors import FlexorError
from flexor.export.exporter import Job, Made
from flexor.export.graphs.facts import graph_facts
from flexor.export.graphs.flat import FlatGraph, example
from flexor.runtime.inference.graphs import ANY, Port
from flexor.runtime.inference.torch_pt2_engine import FACTS, MOST_SAMPLES, X86, built_for

TARGETS = {X86: {"cpp.simdlen": 256, "cpp.march": X86}}
"""Options of the compiler by the processor that is built for; others are built for the machine as it is."""


def write_graphs(job: Job, folder: Path) -> Made:
    """Compile prefix.pt2 and expert.pt2 into a folder; takes a C++ compiler, and minutes.

    Raises:
        FlexorError: there is no C++ compiler, or it does not compile what PyTorch writes.
    """
    _check_compiler()
    tied = built_for()
    graphs = replace(job.graphs, built_for=tied)
    config = replace(job.config, graphs=graphs)
    for (role, module), name in zip(job.modules(), graphs.files, strict=True):
        job.told(f"{role}: exporting")
        inputs = job.ports[role][0]
        flat = FlatGraph(module, inputs).eval().requires_grad_(False)
        with torch.no_grad():
            program = export(flat, tuple(example(port) for port in inputs), dynamic_shapes=(_free(inputs),))
        job.told(f"{role}: compiling")
        options = {
            # The number of threads is the caller's of each call, not that of this process.
            "cpp.dynamic_threads": True,
            "aot_inductor.metadata": {FACTS: json.dumps(graph_facts(config, role, job.ports[role]))},
            **TARGETS.get(tied["cpu"], {}),
        }
        try:
            aoti_compile_and_package(program, package_path=str(folder / name), inductor_configs=options)
        except CppCompileError as error:
            raise FlexorError(
                f"{role}: the C++ compiler does not compile what torch {torch.__version__} writes: {error}; take"
                " another one (environment variable CXX), or --format torchscript or onnx"
            ) from error
    return Made(graphs)


def _free(inputs: Sequence[Port]) -> tuple[dict[int, Dim] | None, ...]:
    """Which axes the number of samples is."""
    samples = Dim(ANY, min=1, max=MOST_SAMPLES)
    return tuple({axis: samples for axis, size in enumerate(port.shape) if size == ANY} or None for port in inputs)


def _check_compiler() -> None:
    """Told before anything is traced.

    Raises:
        FlexorError: there is none.
    """
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise FlexorError(
            "format 'pt2' needs a C++ compiler, and there is none; apt-get install g++, or name one in the environment"
            " variable CXX, or take --format torchscript or onnx"
        ) from error
