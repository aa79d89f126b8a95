"""One ONNX file: a model with what it is written into it, and its weights beside it where they are too large."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import ModelProto

from flexor import __version__
from flexor.export.graphs.facts import graph_facts
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.graphs import Ports

EXTERNAL_BYTES = 1 << 31
"""Weights of more lie in FILE.data: a protobuf message cannot hold them."""

SMALLEST_EXTERNAL = 1 << 10  # bytes of a tensor; smaller ones stay in the file, where shape inference can read them


def stamp(model: ModelProto, config: BundleConfig, role: str, ports: Ports) -> None:
    """Write into a model what it is, as its metadata."""
    model.producer_name, model.producer_version = "flexor", __version__
    del model.metadata_props[:]
    for key, value in graph_facts(config, role, ports).items():
        model.metadata_props.add(key=f"flexor.{key}", value=value if isinstance(value, str) else json.dumps(value))


def save_graph(model: ModelProto, path: Path) -> None:
    """Write a model, checked by ONNX; its weights into `path`.data where they come to more than EXTERNAL_BYTES."""
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_BYTES
    onnx.save_model(
        model,
        path,
        save_as_external_data=large,
        location=f"{path.name}.data",
        size_threshold=SMALLEST_EXTERNAL,
    )
    onnx.checker.check_model(str(path))
