"""TensorrtGraph: one serialized engine, deserialized and ready to run on a GPU."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.inference.cuda_device import CudaDevice, DeviceArray
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.graph_engine import check_tensors
from flexor.runtime.inference.graphs import ANY, Ports
from flexor.runtime.inference.tensorrt_library import RTX, TensorrtLibrary, last_error

_Tensor = tuple[str, str, list[int | str]]


def deserialize(library: TensorrtLibrary, path: Path, again: str) -> tuple[Any, Any, Any]:
    """The engine in a file, and the runtime and the logger, which must outlive it.

    Args:
        again: the command that builds it again, for the error.

    Raises:
        EngineError: the library refuses it; tells why and the way out.
    """
    messages = library.messages()
    runtime = library.module.Runtime(messages)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError(
            f"{library.name} {library.version} cannot load {path}: {last_error(messages)}; build it again for this"
            f" machine: {again}"
        )
    return engine, runtime, messages


class TensorrtGraph:
    """One engine file with an execution context of its own. See Graph.

    Kernels that TensorRT-RTX compiles here are kept by `save_kernels`, so that the next start does not compile them.

    Args:
        library: what it was built with.
        device: where it runs.
        path: the file.
        ports: its tensors.
        kernels: file of kernels compiled earlier; it need not exist.
        again: the command that builds it again, for errors.

    Attributes:
        most_samples: the largest N that it takes; None where it has no free axis.

    Raises:
        EngineError: a file that the library refuses, or of other tensors than `ports` tells of.
    """

    def __init__(
        self, library: TensorrtLibrary, device: CudaDevice, path: Path, ports: Ports, kernels: Path, again: str
    ) -> None:
        self._library, self._device, self._path, self._kernels, self._again = library, device, path, kernels, again
        self._engine, self._runtime, self._messages = deserialize(library, path, again)
        inputs, outputs = _tensors(library.module, self._engine)
        order = {port.name: place for side in ports for place, port in enumerate(side)}
        for side in (inputs, outputs):
            side.sort(key=lambda tensor: order.get(tensor[0], len(order)))
        check_tensors(path, (inputs, outputs), ports)
        self._outputs = [(port.name, np.dtype(port.dtype)) for port in ports[1]]
        free = next(((port.name, port.shape.index(ANY)) for port in ports[0] if ANY in port.shape), None)
        self.most_samples = None
        if free is not None:
            self.most_samples = int(self._engine.get_tensor_profile_shape(free[0], 0)[2][free[1]])
        self._cache = None
        config = self._engine.create_runtime_config()
        if library.name == RTX:
            # What a shape needs is compiled when it first comes, not beside a robot that moves already.
            config.dynamic_shapes_kernel_specialization_strategy = (
                library.module.DynamicShapesKernelSpecializationStrategy.EAGER
            )
            self._cache = config.create_runtime_cache()
            if kernels.exists():
                self._cache.deserialize(kernels.read_bytes())  # False, and nothing is kept, where they do not fit
            config.set_runtime_cache(self._cache)
        self._config = config  # outlives the context
        self._context = self._engine.create_execution_context(config)
        if self._context is None:
            raise EngineError(f"engine tensorrt has no room to run {path}: {last_error(self._messages)}")

    def run(self, given: Mapping[str, DeviceArray | NDArray[np.generic]]) -> list[DeviceArray]:
        """See Graph.

        Raises:
            EngineError: more samples than it was built for, or the library fails.
        """
        self._device.use()
        held = {
            name: value if isinstance(value, DeviceArray) else self._device.put(value) for name, value in given.items()
        }
        for name, array in held.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EngineError(
                    f"{self._path} takes no {name} of {list(array.shape)}; samples are 1 to {self.most_samples}; build"
                    f" it for more, with a larger --most-samples: {self._again}"
                )
            self._context.set_tensor_address(name, array.pointer)
        if missing := self._context.infer_shapes():
            raise EngineError(f"{self._path} was given no {', '.join(missing)}")
        made = []
        for name, dtype in self._outputs:
            array = self._device.empty(tuple(self._context.get_tensor_shape(name)), dtype)
            self._context.set_tensor_address(name, array.pointer)
            made.append(array)
        if not self._context.execute_async_v3(self._device.stream):
            raise EngineError(f"engine tensorrt cannot run {self._path}: {last_error(self._messages)}")
        self._device.wait()  # what was put for this call may go now
        return made

    def save_kernels(self) -> bool:
        """Keep what was compiled so far. False where nothing is compiled here.

        Raises:
            OSError: the file cannot be written.
        """
        if self._cache is None:
            return False
        draft = self._kernels.with_suffix(".part")
        self._kernels.parent.mkdir(exist_ok=True)
        draft.write_bytes(memoryview(self._cache.serialize()))
        draft.replace(self._kernels)
        return True


def _tensors(module: Any, engine: Any) -> tuple[list[_Tensor], list[_Tensor]]:
    """Inputs and outputs of an engine, as check_tensors has them."""
    dtypes = {
        module.DataType.FLOAT: "float32",
        module.DataType.INT64: "int64",
        module.DataType.BOOL: "bool",
    }
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []
    for place in range(engine.num_io_tensors):
        name = engine.get_tensor_name(place)
        dtype = engine.get_tensor_dtype(name)
        shape: list[int | str] = [ANY if size == -1 else int(size) for size in engine.get_tensor_shape(name)]
        side = inputs if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT else outputs
        side.append((name, dtypes.get(dtype, str(dtype)), shape))
    return inputs, outputs
