"""float16 or bfloat16: weights and large products in 16 bits, everything between them in float32.

Norms, softmax and sums in half precision are where Gemma and SigLIP lose their numbers. A processor without products in
half precision widens the weights when it loads them, and half the file remains.
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from flexor.errors import FlexorError
from flexor.export.onnx.quantise import products

HALVES: Mapping[str, tuple[int, np.dtype]] = {
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
"""By precision: the type as ONNX and as numpy knows it."""


def halve(model: ModelProto, precision: str = "fp16") -> None:
    """Change the products of a float32 model in place.

    Args:
        precision: key of HALVES.

    Raises:
        FlexorError: a weight that the type cannot hold.
    """
    graph, (kind, dtype) = model.graph, HALVES[precision]
    chosen = set(products(model, half=True))
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halved: set[str] = set()
    nodes = []
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        for place in range(1, len(node.input)):  # the weight, and a bias
            _halve_tensor(weights[node.input[place]], halved, dtype)
        narrow, wide = f"{node.name}/half", node.output[0]
        nodes.append(helper.make_node("Cast", [node.input[0]], [narrow], f"{narrow}/Cast", to=kind))
        node.input[0], node.output[0] = narrow, f"{node.name}/half_output"
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [wide], f"{node.name}/wide", to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    _halve_embedding(model, halved, dtype)


def _halve_embedding(model: ModelProto, halved: set[str], dtype: np.dtype) -> None:
    """The token table of a prefix, whose rows are widened after they were taken."""
    for place, node in enumerate(model.graph.node):
        if node.op_type == "Gather" and node.input[0] == "embedding":
            table = next(tensor for tensor in model.graph.initializer if tensor.name == "embedding")
            _halve_tensor(table, halved, dtype)
            wide, node.output[0] = node.output[0], "embedding/half"
            cast = helper.make_node("Cast", ["embedding/half"], [wide], "embedding/wide", to=TensorProto.FLOAT)
            model.graph.node.insert(place + 1, cast)
            return


def _halve_tensor(tensor: TensorProto, halved: set[str], dtype: np.dtype) -> None:
    if tensor.name in halved:
        return
    array = numpy_helper.to_array(tensor)
    largest = float(ml_dtypes.finfo(dtype).max)
    if np.abs(array).max(initial=0.0) > largest:
        raise FlexorError(f"{tensor.name} reaches {np.abs(array).max():g}, and {dtype} {largest:g}; export in fp32")
    tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))
    halved.add(tensor.name)
