"""float16 or bfloat16: weights and large products in 16 bits, everything between them in float32.

Norms, softmax and sums in half precision are where Gemma and SigLIP lose their numbers. A processor without products in
half precision widens the weights when it loads them, and half the file remains.
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
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
    chosen = halve_products(model, precision)
    for tensor in model.graph.initializer:
        if tensor.name in chosen:
            narrow = to_half(tensor.name, numpy_helper.to_array(tensor), precision)
            tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))


def halve_products(model: ModelProto, precision: str) -> set[str]:
    """Let the products of a model take 16 bits, in place, and name the weights that they then expect in 16 bits.

    No weight is read or changed.
    """
    graph, kind = model.graph, HALVES[precision][0]
    chosen, halved = set(products(model, half=True)), set[str]()
    nodes = []
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        halved.update(node.input[1:])  # the weight, and a bias
        narrow, wide = f"{node.name}/half", node.output[0]
        nodes.append(helper.make_node("Cast", [node.input[0]], [narrow], f"{narrow}/Cast", to=kind))
        node.input[0], node.output[0] = narrow, f"{node.name}/half_output"
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [wide], f"{node.name}/wide", to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    return halved | _halve_embedding(model)


def _halve_embedding(model: ModelProto) -> set[str]:
    """The token table of a prefix, whose rows are widened after they were taken."""
    for place, node in enumerate(model.graph.node):
        if node.op_type == "Gather" and node.input[0] == "embedding":
            wide, node.output[0] = node.output[0], "embedding/half"
            cast = helper.make_node("Cast", ["embedding/half"], [wide], "embedding/wide", to=TensorProto.FLOAT)
            model.graph.node.insert(place + 1, cast)
            return {"embedding"}
    return set()


def to_half(name: str, array: NDArray[np.float32], precision: str) -> NDArray[np.generic]:
    """A weight in 16 bits.

    Raises:
        FlexorError: the type cannot hold it.
    """
    dtype = HALVES[precision][1]
    reached = float(max(array.max(initial=0.0), -array.min(initial=0.0)))  # without a copy of what may be large
    largest = float(ml_dtypes.finfo(dtype).max)
    if reached > largest:
        raise FlexorError(f"{name} reaches {reached:g}, and {dtype} {largest:g}; export in fp32")
    return array.astype(dtype)
