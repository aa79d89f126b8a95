"""CudaDevice: memory and a stream of one NVIDIA GPU through the `cuda-bindings` package. Needs no torch and no toolkit.

Memory is handed out in blocks that come back when their array is no longer used, so that calls of the same shapes
allocate nothing after the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cuda.bindings import runtime  # pyright: ignore[reportAttributeAccessIssue]
from numpy.typing import NDArray

from flexor.runtime.inference.engine import EngineError

_PROVIDER = re.compile(r"cuda(?::(\d+))?")


class CudaError(EngineError):
    """No NVIDIA GPU or driver, or a call to CUDA that failed."""


@dataclass(eq=False, slots=True)
class DeviceArray:
    """A C-contiguous array in the memory of a GPU.

    Attributes:
        pointer: its address there.
        dtype: as numpy names it.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype
    _free: Callable[[int, int], None] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds; at least 1, since no block is empty."""
        return max(1, math.prod(self.shape) * self.dtype.itemsize)

    def __del__(self) -> None:
        self._free(self.nbytes, self.pointer)


class CudaDevice:
    """One GPU. Any thread may copy arrays to it; one thread computes.

    Args:
        index: as CUDA counts them.

    Raises:
        CudaError: no driver, no GPU, or none of that number.
    """

    def __init__(self, index: int) -> None:
        count = count_devices()
        if index >= count:
            raise CudaError(f"provider cuda:{index} was asked for, and this machine has {count} NVIDIA GPUs")
        self.index, self.name = index, f"cuda:{index}"
        self._blocks: dict[int, list[int]] = {}
        self.use()
        self.stream, self._copies = (
            int(_call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)) for _ in range(2)
        )

    @classmethod
    def of_provider(cls, provider: str) -> CudaDevice:
        """The GPU that "cuda" (the first) or "cuda:N" means.

        Raises:
            CudaError: another provider, or as the class.
        """
        matched = _PROVIDER.fullmatch(provider)
        if matched is None:
            raise CudaError(f"engine tensorrt has no provider {provider!r}; expected cuda or cuda:N")
        return cls(int(matched[1] or 0))

    @property
    def capability(self) -> str:
        """Its compute capability: sm86 for 8.6."""
        return capability(self.index)

    def use(self) -> None:
        """Make it the GPU of the calling thread."""
        _call(runtime.cudaSetDevice, self.index)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An array of anything."""
        nbytes = max(1, math.prod(shape) * dtype.itemsize)
        try:
            pointer = self._blocks[nbytes].pop()
        except (KeyError, IndexError):
            pointer = int(_call(runtime.cudaMalloc, nbytes))
        return DeviceArray(pointer, shape, dtype, self._keep)

    def put(self, array: NDArray[np.generic]) -> DeviceArray:
        """A copy of an array, complete when this returns."""
        self.use()
        contiguous = np.ascontiguousarray(array)
        made = self.empty(contiguous.shape, contiguous.dtype)
        if contiguous.nbytes:
            kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
            source = contiguous.ctypes.data
            _call(runtime.cudaMemcpyAsync, made.pointer, source, contiguous.nbytes, kind, self._copies)
            _call(runtime.cudaStreamSynchronize, self._copies)
        return made

    def take(self, array: DeviceArray) -> NDArray[Any]:
        """A copy in memory of the caller's own."""
        found = np.empty(array.shape, array.dtype)
        if found.nbytes:
            kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
            _call(runtime.cudaMemcpyAsync, found.ctypes.data, array.pointer, found.nbytes, kind, self._copies)
            _call(runtime.cudaStreamSynchronize, self._copies)
        return found

    def wait(self) -> None:
        """Until everything on its stream is done."""
        _call(runtime.cudaStreamSynchronize, self.stream)

    def _keep(self, nbytes: int, pointer: int) -> None:
        self._blocks.setdefault(nbytes, []).append(pointer)


def count_devices() -> int:
    """NVIDIA GPUs of this machine, one or more.

    Raises:
        CudaError: none, or no driver.
    """
    try:
        count = int(_call(runtime.cudaGetDeviceCount))
    except CudaError as error:
        raise CudaError(f"this machine has no NVIDIA GPU with a driver ({error})") from error
    if count < 1:
        raise CudaError("this machine has no NVIDIA GPU")
    return count


def capability(index: int) -> str:
    """Compute capability of a GPU: sm86 for 8.6.

    Raises:
        CudaError: there is no such GPU.
    """
    kinds = runtime.cudaDeviceAttr
    wanted = kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor
    major, minor = (int(_call(runtime.cudaDeviceGetAttribute, kind, index)) for kind in wanted)
    return f"sm{major}{minor}"


def _call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """What a function of CUDA gives beside its error code, which is raised."""
    code, *found = function(*arguments)
    if code != runtime.cudaError_t.cudaSuccess:
        raise CudaError(f"{getattr(function, '__name__', function)}: {code.name}")
    return found[0] if found else None
