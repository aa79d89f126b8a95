"""8-bit products for onnxruntime's CPU: scales of activations found at run time, or beforehand on recorded ones.

Weights have a scale for every output channel either way; activations have one for all, so that what a GeGLU gives,
whose largest numbers are far from the rest, would lose the rest: the product after it stays in float32, as the stem of
the images and the projections of actions do.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

METHODS = ("dynamic", "static")
KEPT = re.compile(r"vision\.stem\.|action_in\.|action_out\.|layers\.\d+\.down\.")
PRODUCTS = ("MatMul", "Gemm")

Feeds = Mapping[str, NDArray[np.generic]]


def quantise(model: Path, out: Path, method: str, recorded: Sequence[Feeds]) -> None:
    """Write a graph whose large products are of 8 bits.

    Args:
        model: the graph in float32.
        out: file to write.
        method: of METHODS.
        recorded: inputs of the graph that scales are found on; not looked at by "dynamic".
    """
    nodes = products(onnx.load(model, load_external_data=False))
    with _quiet():
        if method == "dynamic":
            quantize_dynamic(
                model,
                out,
                op_types_to_quantize=list(PRODUCTS),
                # It takes a Gemm apart first, and gives its product this name.
                nodes_to_quantize=[*nodes, *(f"{name}_MatMul" for name in nodes)],
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        else:
            quantize_static(
                model,
                out,
                _Recorded(recorded),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(PRODUCTS),
                nodes_to_quantize=nodes,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_providers=["CPUExecutionProvider"],
                extra_options={"OpTypesToExcludeOutputQuantization": list(PRODUCTS)},
            )


def products(model: ModelProto, half: bool = False) -> list[str]:
    """Names of the products with fixed weights that may be of 8 bits, or of all with `half`, that may be of 16."""
    fixed = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in PRODUCTS and node.input[1] in fixed and (half or not KEPT.match(node.input[1]))
    ]


class _Recorded(CalibrationDataReader):
    """Recorded inputs, one after the other."""

    def __init__(self, recorded: Sequence[Feeds]) -> None:
        self._left = iter(recorded)

    def get_next(self) -> Feeds | None:  # type: ignore[override]
        """The next inputs, None after the last."""
        return next(self._left, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without onnxruntime's advice to prepare the model, which was prepared."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)
