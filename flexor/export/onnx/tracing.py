"""From a module of flexor.export.graphs to an ONNX model: traced, cleaned, named by its ports, all shapes known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx import GraphProto, ModelProto, TensorProto
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from torch import nn

from flexor.export.graphs.flat import example
from flexor.runtime.inference.graphs import ANY, Port, Ports

OPSET = 20
"""The last that PyTorch's tracing exporter writes, and the first with Gelu as one operation."""


def trace_graph(module: nn.Module, ports: Ports, draft: Path, weights: bool = True) -> ModelProto:
    """Export a module.

    PyTorch's tracing exporter is used: the one on torch.export writes the same operations, and takes twenty times as
    long for flow steps that follow each other.

    Args:
        module: whose arguments are the input ports in their order; None where a port is left out.
        ports: inputs and outputs.
        draft: a file to write meanwhile, in a folder that will go.
        weights: whether the numbers of parameters and buffers are kept; else their initialisers are empty, and those
            of the same numbers are still one.

    Returns:
        The model, weights loaded where they are kept.
    """
    inputs, outputs = ports
    free = {
        port.name: {axis: ANY for axis, size in enumerate(port.shape) if size == ANY} for port in (*inputs, *outputs)
    }
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            module.eval(),
            module.arguments({port.name: example(port) for port in inputs}),  # type: ignore[operator]
            str(draft),
            input_names=[port.name for port in inputs],
            output_names=[port.name for port in outputs],
            dynamic_axes={name: axes for name, axes in free.items() if axes},
            opset_version=OPSET,
            dynamo=False,
            export_params=weights,
            do_constant_folding=weights,  # what it makes of constants would be numbers, too
        )
    model = onnx.load(draft)
    _lift_constants(model.graph)
    _check_ports(model.graph, inputs, outputs)
    # onnxruntime plans its memory ten times as fast where every shape is known, in terms of the number of samples.
    inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    assert inferred is not None
    _empty_weights(inferred.graph, len(inputs))
    return inferred


def _lift_constants(graph: GraphProto) -> None:
    """Constants become initialisers, each value once, and operations that do nothing go."""
    kept, renamed, seen = [], {}, {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        if node.op_type == "Identity":
            renamed[node.output[0]] = node.input[0]
        elif node.op_type == "Constant":
            value = node.attribute[0].t
            key = (value.data_type, tuple(value.dims), onnx.numpy_helper.to_array(value).tobytes())
            if key not in seen:
                seen[key] = value.name = node.output[0]
                graph.initializer.append(value)
            renamed[node.output[0]] = seen[key]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _empty_weights(graph: GraphProto, ports: int) -> None:
    """Inputs behind the ports are weights that were not kept: they become initialisers without numbers."""
    for value in graph.input[ports:]:
        kind = value.type.tensor_type
        dims = [size.dim_value for size in kind.shape.dim]
        graph.initializer.append(TensorProto(name=value.name, data_type=kind.elem_type, dims=dims))
    del graph.input[ports:]


def _check_ports(graph: GraphProto, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """An input that nothing reads is dropped by the exporter without a word; none of ours is."""
    for found, ports in ((graph.input, inputs), (graph.output, outputs)):
        expected = [port.name for port in ports]
        names = [value.name for value in found][: len(expected)]  # weights that were not kept follow
        assert names == expected, f"the exporter wrote {names}, not {expected}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's warnings: of shapes that become constants, as they should, and of its age."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
