"""TensorrtNetwork: an ONNX graph as TensorRT understands it, every tensor of the type that the graph says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.inference.tensorrt_library import TensorrtLibrary, last_error


class TensorrtNetwork:
    """A parsed graph, strongly typed: the builder chooses how to compute, never in what precision.

    Args:
        library: that parses it.
        path: ONNX file; weights beside it are found.

    Attributes:
        builder, network: the library's own.
        messages: see TensorrtLibrary.messages.

    Raises:
        FlexorError: an operation that the parser does not know, named with its node.
    """

    def __init__(self, library: TensorrtLibrary, path: Path) -> None:
        module = library.module
        self.library, self.path, self.messages = library, path, library.messages()
        self.builder = module.Builder(self.messages)
        self.network = self.builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parser = module.OnnxParser(self.network, self.messages)  # keeps the weights
        if not self._parser.parse_from_file(str(path)):
            raise FlexorError(f"{library.name} {library.version} cannot read {path.name}: {self._problem()}")
        for tensor in self.inputs():
            if tensor.is_shape_tensor:
                raise FlexorError(
                    f"{path.name}: the shape of something is the value of {tensor.name}, which lies on GPUs"
                )

    def layers(self) -> Iterator[Any]:
        """Every layer, in the order of the graph."""
        return (self.network.get_layer(place) for place in range(self.network.num_layers))

    def inputs(self) -> Iterator[Any]:
        """Every input."""
        return (self.network.get_input(place) for place in range(self.network.num_inputs))

    def _problem(self) -> str:
        if not self._parser.num_errors:
            return last_error(self.messages)
        error = self._parser.get_error(0)
        where = f" at node {error.node_name()} ({error.node_operator()})" if error.node_name() else ""
        return f"{error.desc()}{where}"
