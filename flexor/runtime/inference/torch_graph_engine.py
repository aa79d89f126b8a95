"""TorchGraphEngine: exported graphs whose tensors are PyTorch's, on the CPU."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve busy neighbours; read once, by torch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.graph_engine import GraphEngine, check_tensors
from flexor.runtime.inference.graphs import Ports
from flexor.runtime.inference.torch_resample import torch_resample

Call = Callable[[list[Tensor]], Sequence[Tensor]]
"""One graph: inputs in the order of its ports, outputs in theirs."""


class TorchGraphEngine(GraphEngine[Tensor]):
    """See GraphEngine; the provider is cpu. A format contributes how a file is read."""

    resample = staticmethod(torch_resample)

    @abstractmethod
    def _load(self, path: Path) -> tuple[str, Call]:
        """What a file says about itself (JSON of flexor.export.graphs.facts), and what computes.

        Raises:
            EngineError: a file that PyTorch cannot read.
        """

    def _open(self, path: Path, ports: Ports) -> TorchGraph:
        if self.provider != "cpu":
            raise EngineError(
                f"engine {self.name} has no provider {self.provider!r}: its graphs are made for the cpu; take --engine"
                " torch with the bundle of weights for a GPU"
            )
        told, call = self._load(path)
        inputs, outputs = (
            [(port["name"], port["dtype"], port["shape"]) for port in json.loads(told or "{}").get(side, ())]
            for side in ("inputs", "outputs")
        )
        check_tensors(path, (inputs, outputs), ports)
        return TorchGraph(call, [port.name for port in ports[0]], self.threads, path)

    def _put(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array.copy())

    def _take(self, tensor: Tensor) -> NDArray[np.float32]:
        return tensor.numpy()


class TorchGraph:
    """One graph, loaded; see flexor.runtime.inference.graph_engine.Graph."""

    def __init__(self, call: Call, names: Sequence[str], threads: int, path: Path) -> None:
        self._call, self._names, self._threads, self._path = call, names, threads, path

    def run(self, given: Mapping[str, Tensor | NDArray[np.generic]]) -> Sequence[Tensor]:
        """See Graph."""
        # The count belongs to the process and to the calling thread: it is set again when it moved.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        values = (given[name] for name in self._names)
        tensors = [value if isinstance(value, Tensor) else torch.from_numpy(value) for value in values]
        try:
            with torch.inference_mode():
                return self._call(tensors)
        except RuntimeError as error:
            told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise EngineError(f"torch {torch.__version__} cannot run {self._path}: {told}") from error
