"""The graphs of a bundle as TorchScript files: traced, with what they are as an extra file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from flexor.export.exporter import Job, Made
from flexor.export.graphs.facts import graph_facts
from flexor.export.graphs.flat import FlatGraph, example
from flexor.runtime.inference.torch_script_engine import FACTS


def write_graphs(job: Job, folder: Path) -> Made:
    """Write prefix.ts and expert.ts into a folder."""
    for (role, module), name in zip(job.modules(), job.graphs.files, strict=True):
        job.told(f"{role}: tracing")
        ports = job.ports[role]
        with torch.no_grad(), warnings.catch_warnings():
            # Of shapes that become constants, as they should, and of the tracer's age.
            warnings.simplefilter("ignore")
            flat = FlatGraph(module, ports[0]).eval()
            # Checking would trace a second time to compare; flexor verify compares with the model itself.
            traced = torch.jit.trace(flat, tuple(example(port) for port in ports[0]), check_trace=False)
            # Not frozen: torch.jit.freeze of torch 2.13 makes graphs of this kind that fail when they are run.
            facts = json.dumps(graph_facts(job.config, role, ports))
            torch.jit.save(traced, folder / name, _extra_files={FACTS: facts})
    return Made(job.graphs)
