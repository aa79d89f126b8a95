"""OnnxEngine: exported graphs in onnxruntime. Imports no torch.

onnxruntime has adapters of its own, and ignores them where inputs are bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime import NodeArg, OrtValue  # pyright: ignore[reportAttributeAccessIssue]

from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.graph_engine import GraphEngine, check_tensors
from flexor.runtime.inference.graphs import ANY, Ports
from flexor.runtime.inference.onnx_session import open_session

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool"}


class OnnxEngine(GraphEngine[OrtValue]):
    """See GraphEngine; the provider is cpu or cuda."""

    name = "onnx"

    def _open(self, path: Path, ports: Ports) -> OnnxGraph:
        return OnnxGraph(path, self.threads, self.provider, ports)

    def _put(self, array: NDArray[np.generic]) -> OrtValue:
        # A copy: on a CPU an OrtValue would lie in the array's own memory.
        return OrtValue.ortvalue_from_numpy(array.copy(), self.provider, 0)

    def _take(self, tensor: OrtValue) -> NDArray[np.float32]:
        return tensor.numpy()


class OnnxGraph:
    """One ONNX file in a session of onnxruntime.

    Raises:
        EngineError: as in open_session, and a file of other tensors than `ports` tells of.
    """

    def __init__(self, path: Path, threads: int, provider: str, ports: Ports) -> None:
        self._path, self._provider = path, provider
        self._session = open_session(path, threads, provider)
        self._binding = self._session.io_binding()
        self._outputs = [port.name for port in ports[1]]
        check_tensors(path, (_tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())), ports)

    def run(self, given: Mapping[str, OrtValue | NDArray[np.generic]]) -> list[OrtValue]:
        """See Graph."""
        for name, value in given.items():
            if isinstance(value, OrtValue):
                self._binding.bind_ortvalue_input(name, value)
            else:
                self._binding.bind_cpu_input(name, value)  # by address: the caller keeps it until the end
        for name in self._outputs:
            self._binding.bind_output(name, self._provider)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime's own errors have no common class of their own
            raise EngineError(f"engine onnx cannot run {self._path}: {str(error).splitlines()[0]}") from error
        return self._binding.get_outputs()


def _tensors(nodes: Sequence[NodeArg]) -> list[tuple[str, str, list[int | str]]]:
    return [
        (
            node.name,
            _DTYPES.get(str(node.type), str(node.type)),
            [ANY if isinstance(size, str) else size for size in node.shape],
        )
        for node in nodes
    ]
