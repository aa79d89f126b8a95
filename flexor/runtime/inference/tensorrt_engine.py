"""TensorrtEngine: engines of TensorRT on an NVIDIA GPU. Imports no torch.

Engines are tied to the version of the library that built them, and to GPUs: what does not fit is refused before it is
loaded, with the command that builds them again. It has been tried on no GPU yet: the calls are those of the bindings.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.cuda_device import CudaDevice, CudaError, DeviceArray, capability, count_devices
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.graph_engine import GraphEngine
from flexor.runtime.inference.graphs import Graphs, Ports, export_command
from flexor.runtime.inference.tensorrt_graph import TensorrtGraph
from flexor.runtime.inference.tensorrt_library import PACKAGES, TensorrtLibrary

KERNELS = "kernels"
"""Folder in the bundle for kernels that were compiled on this machine: about the bundle and not of it, as gates are."""


class TensorrtEngine(GraphEngine[DeviceArray]):
    """See GraphEngine; the provider is cuda or cuda:N. At the start it answers once for 1 sample and once for as many
    as it takes, so that everything is compiled before the first question.

    Raises:
        EngineError: as GraphEngine, and engines of another library, version or GPU.
        CudaError: no GPU.
    """

    name = "tensorrt"

    def __init__(
        self, bundle: Bundle, precision: str | None, threads: int, flow_steps: int, provider: str = "cuda:0"
    ) -> None:
        self.check(bundle, precision, flow_steps)
        graphs = bundle.config.graphs
        assert graphs is not None
        self._library = TensorrtLibrary.load(graphs.built_for["library"])
        self._device = CudaDevice.of_provider(provider)
        _check_gpu(bundle, graphs, self._device.index)
        self._again = rebuild_command(bundle.config, self._device.capability)
        self._kernels = bundle.path / KERNELS
        super().__init__(bundle, precision, threads, flow_steps, self._device.name)
        self._warm_up(bundle.config)

    @classmethod
    def check_machine(cls, bundle: Bundle, graphs: Graphs) -> None:
        """See GraphEngine."""
        _check_library(bundle, graphs)
        _check_gpu(bundle, graphs, 0)

    def _open(self, path: Path, ports: Ports) -> TensorrtGraph:
        kernels = self._kernels / f"{path.stem}.{self._device.capability}.bin"
        return TensorrtGraph(self._library, self._device, path, ports, kernels, self._again)

    def _put(self, array: NDArray[np.generic]) -> DeviceArray:
        return self._device.put(array)

    def _take(self, tensor: DeviceArray) -> NDArray[np.float32]:
        return self._device.take(tensor)

    def _warm_up(self, config: BundleConfig) -> None:
        graphs = [cast(TensorrtGraph, graph) for graph in (self._prefix, self._expert)]
        size, chunk = config.model.vision.image_size, (config.horizon, config.model.action_dim)
        prefix = self.encode(np.zeros((len(config.cameras), 3, size, size), np.float32), np.zeros(1, np.int64))
        for count in sorted({1, graphs[1].most_samples or 1}):
            self.denoise(prefix, np.zeros((count, *chunk), np.float32), None)
        try:
            for graph in graphs:
                graph.save_kernels()
        except OSError as error:
            logging.getLogger(__name__).warning(
                "%s cannot be written (%s): the next start compiles again", self._kernels, error.strerror
            )


def rebuild_command(config: BundleConfig, target: str) -> str:
    """What to type to build a bundle's engines again for a GPU."""
    assert config.graphs is not None
    samples = config.graphs.built_for.get("most_samples")
    return f"{export_command(config)} --targets {target}{f' --most-samples {samples}' if samples else ''}"


def _check_library(bundle: Bundle, graphs: Graphs) -> None:
    """Raises EngineError: engines of a library that is not here, or not in that version."""
    built_for = graphs.built_for
    if missing := [name for name in ("library", "version", "targets") if name not in built_for]:
        raise EngineError(
            f"{bundle.id} does not tell the {', '.join(missing)} of its engines; build them again:"
            f" {export_command(bundle.config)}"
        )
    name, version = built_for["library"], built_for["version"]
    here = TensorrtLibrary.load(name)
    if here.version != version:
        raise EngineError(
            f"the engines of {bundle.id} were built by {name} {version}, and {here.version} is installed; pip install"
            f" {PACKAGES[name]}=={version}, or build them again:"
            f" {rebuild_command(bundle.config, built_for['targets'])}"
        )


def _check_gpu(bundle: Bundle, graphs: Graphs, index: int) -> None:
    """Raises EngineError: no GPU, or one that the engines were not built for."""
    targets = graphs.built_for["targets"]
    try:
        count_devices()
        here = capability(index)
    except CudaError as error:
        raise CudaError(
            f"the engines of {bundle.id} run on GPUs of {targets}: {error}; on a CPU serve ONNX graphs instead:"
            f" flexor export {bundle.name} --format onnx --out DIR"
        ) from error
    if here not in targets.split(","):
        raise EngineError(
            f"the engines of {bundle.id} were built for {targets}, and cuda:{index} is {here}; build them again:"
            f" {rebuild_command(bundle.config, here)}"
        )
