"""One ONNX file: a model with what it is written into it, and its weights beside it where they are too large."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx
from onnx import ModelProto

from flexor import __version__
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.graphs import Port

EXTERNAL_BYTES = 1 << 31
"""Weights of more lie in FILE.data: a protobuf message cannot hold them."""

SMALLEST_EXTERNAL = 1 << 10  # bytes of a tensor; smaller ones stay in the file, where shape inference can read them


def stamp(model: ModelProto, config: BundleConfig, role: str, ports: tuple[Sequence[Port], Sequence[Port]]) -> None:
    """Write into a model what it is: the file alone tells its tensors, their units, and where it is from."""
    graphs = config.graphs
    assert graphs is not None
    facts: Mapping[str, object] = {
        "flexor": __version__,
        "schema_version": 1,
        "graph": role,
        "bundle": config.name,
        "source": graphs.source,
        "precision": getattr(graphs, role),
        "horizon": config.horizon,
        "flow_steps": config.flow_steps,
        "one_step": graphs.one_step,
        "rank": graphs.rank,
        "cameras": config.cameras,
        "normalization": config.normalization_of_actions,
        "actions": config.action_space.to_dict(),
        "inputs": [asdict(port) for port in ports[0]],
        "outputs": [asdict(port) for port in ports[1]],
    }
    model.producer_name, model.producer_version = "flexor", __version__
    del model.metadata_props[:]
    for key, value in facts.items():
        model.metadata_props.add(key=f"flexor.{key}", value=value if isinstance(value, str) else json.dumps(value))


def save_graph(model: ModelProto, path: Path, external_bytes: int = EXTERNAL_BYTES) -> None:
    """Write a model, checked by ONNX; its weights into `path`.data where they come to more than `external_bytes`."""
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > external_bytes
    onnx.save_model(
        model,
        path,
        save_as_external_data=large,
        location=f"{path.name}.data",
        size_threshold=SMALLEST_EXTERNAL,
    )
    onnx.checker.check_model(str(path))
