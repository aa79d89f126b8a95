"""FlatGraph: a graph whose arguments are its input ports in their order, as files are called that know no names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from flexor.runtime.inference.graphs import ANY, Port

SAMPLES = 2  # while tracing: 1 would be taken for a constant


class FlatGraph(nn.Module):
    """A module of flexor.export.graphs under its input ports.

    Args:
        graph: PrefixGraph or ExpertGraph.
        inputs: its input ports.
    """

    def __init__(self, graph: nn.Module, inputs: Sequence[Port]) -> None:
        super().__init__()
        self.inner, self.names = graph, [port.name for port in inputs]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs in the order of the output ports."""
        given = dict(zip(self.names, tensors, strict=True))
        return self.inner(*self.inner.arguments(given))  # type: ignore[operator]


def example(port: Port) -> Tensor:
    """A tensor for tracing: SAMPLES samples, and counts and lengths of 1, since none may be a special case."""
    shape = [SAMPLES if size == ANY else int(size) for size in port.shape]
    dtype = np.dtype(port.dtype)
    return torch.from_numpy(np.ones(shape, dtype) if dtype.kind == "i" else np.zeros(shape, dtype))
