"""8-bit products for TensorRT: Q and DQ around them, symmetric, int8 or fp8 (e4m3).

Activations have one scale, the largest number that recorded inputs gave over the largest of the type; weights have one
for every output channel, and are stored in 8 bits. What onnxruntime's CPU keeps in float32 stays so here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from flexor.export.onnx.quantise import Feeds, products
from flexor.runtime.inference.onnx_session import open_session

KINDS: Mapping[str, tuple[np.dtype, float]] = {
    "int8": (np.dtype(np.int8), 127.0),
    "fp8": (np.dtype(ml_dtypes.float8_e4m3fn), 448.0),
}
"""By precision: the type, and its largest number."""


def quantise_symmetric(path: Path, precision: str, recorded: Sequence[Feeds]) -> ModelProto:
    """The graph of a file with its large products in 8 bits.

    Args:
        path: a float32 graph.
        precision: key of KINDS.
        recorded: inputs of the graph that scales are found on, one or more.
    """
    model = onnx.load(path)
    chosen = set(products(model))
    nodes = [node for node in model.graph.node if node.name in chosen]
    largest = _largest(path, sorted({node.input[0] for node in nodes}), recorded)
    dtype, limit = KINDS[precision]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    before: dict[str, list[NodeProto]] = {}
    quantised: dict[str, str] = {}
    for node in nodes:
        added = before.setdefault(node.name, [])
        source, weight = node.input[0], node.input[1]
        if source not in quantised:
            scale, zero = f"{source}/scale", f"{source}/zero"
            model.graph.initializer.extend(
                (
                    numpy_helper.from_array(np.array(largest[source] / limit, np.float32), scale),
                    numpy_helper.from_array(np.zeros((), dtype), zero),
                )
            )
            narrow, quantised[source] = f"{source}/q", f"{source}/dq"
            added.append(helper.make_node("QuantizeLinear", [source, scale, zero], [narrow], f"{source}/Q"))
            added.append(helper.make_node("DequantizeLinear", [narrow, scale, zero], [quantised[source]], f"{narrow}D"))
        if weight not in quantised:
            quantised[weight] = f"{weight}/dq"
            names = _quantise_weight(model, weights[weight], dtype, limit)
            added.append(helper.make_node("DequantizeLinear", names, [quantised[weight]], f"{weight}/DQ", axis=1))
        node.input[0], node.input[1] = quantised[source], quantised[weight]
    ordered = [entry for node in model.graph.node for entry in (*before.get(node.name, ()), node)]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in quantised]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _quantise_weight(model: ModelProto, tensor: TensorProto, dtype: np.dtype, limit: float) -> list[str]:
    """Add a weight [in, out] in 8 bits; names of it, its scales [out] and its zeros."""
    array = numpy_helper.to_array(tensor)
    scales = np.maximum(np.abs(array).max(axis=0), np.finfo(np.float32).tiny) / np.float32(limit)
    scaled = array / scales
    narrow = (np.rint(scaled) if dtype == np.int8 else scaled).clip(-limit, limit).astype(dtype)
    made = {f"{tensor.name}/q": narrow, f"{tensor.name}/scale": scales.astype(np.float32)}
    made[f"{tensor.name}/zero"] = np.zeros(len(scales), dtype)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())
    return list(made)


def _largest(path: Path, names: Sequence[str], recorded: Sequence[Feeds]) -> dict[str, float]:
    """The largest absolute value of inner tensors over recorded inputs, more than 0."""
    shown = onnx.load(path, load_external_data=False)  # large weights stay where they are, beside both files
    have = {value.name for value in shown.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in have
    )
    file = path.with_name(f"{path.stem}.shown.onnx")
    onnx.save(shown, file)
    session = open_session(file, 1, "cpu")
    found = dict.fromkeys(names, np.finfo(np.float32).tiny.item())
    for feeds in recorded:
        for name, value in zip(names, session.run(list(names), dict(feeds)), strict=True):
            array: NDArray[np.float32] = np.asarray(value)
            found[name] = max(found[name], float(np.abs(array).max()))
    file.unlink()
    return found
