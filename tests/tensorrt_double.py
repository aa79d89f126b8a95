"""Stand-ins for what only a GPU can run: objects of TensorRT's bindings, and the functions of CUDA's.

They have the classes, the enumerations and the signatures of the real packages: what those do not have, or do not take,
fails here as it would there. Behind them onnxruntime computes: the content of an "engine" file is an ONNX graph, and
device memory is this process's own.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import tensorrt_rtx
from cuda.bindings import runtime as cuda  # pyright: ignore[reportAttributeAccessIssue]

trt: Any = tensorrt_rtx
_TYPES = {"tensor(float)": trt.DataType.FLOAT, "tensor(int64)": trt.DataType.INT64, "tensor(bool)": trt.DataType.BOOL}
_NUMPY = {trt.DataType.FLOAT: np.float32, trt.DataType.INT64: np.int64, trt.DataType.BOOL: np.bool_}


class Strict:
    """An object of a class of the bindings: answers by name, properties by value; nothing that the class has not."""

    def __init__(self, real: type, answers: Mapping[str, Any]) -> None:
        object.__setattr__(self, "real", real)
        object.__setattr__(self, "answers", dict(answers))

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.real, name)  # AttributeError, as there
        if isinstance(member, property):
            return self.answers[name]

        def call(*arguments: Any) -> Any:
            assert _takes(name, member.__doc__, arguments), f"{self.real.__name__}.{name} takes no {arguments}"
            return self.answers[name](*arguments)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        member = getattr(self.real, name)
        assert isinstance(member, property) and member.fset is not None, f"{self.real.__name__}.{name} is not set"
        self.answers[name] = value


def _takes(name: str, doc: str, arguments: tuple[Any, ...]) -> bool:
    """Whether one of the signatures that a docstring tells takes these arguments."""
    signatures = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) -> ", doc, re.MULTILINE)
    assert signatures, doc
    for signature in signatures:
        expected = [part.partition(": ")[2] for part in signature.split(", ")][1:]
        least = sum(" = " not in part for part in expected)
        if least <= len(arguments) <= len(expected) and all(map(_fits, arguments, expected)):
            return True
    return False


def _fits(argument: Any, expected: str) -> bool:
    kind, _, default = expected.partition(" = ")
    plain = {"str": str, "bool": bool, "tuple": tuple, "list": list, "typing.SupportsInt": int}
    if kind in plain:
        return isinstance(argument, plain[kind])
    if kind == "typing_extensions.Buffer":
        return memoryview(argument).nbytes > 0
    if argument is None:
        return default == "None"
    there = argument.real if isinstance(argument, Strict) else type(argument)
    return kind.replace("::", ".").rpartition(".")[2] in {base.__name__ for base in there.__mro__}


class Bindings:
    """What stands in for the module tensorrt_rtx, of any version.

    Attributes:
        caches: content of the runtime caches that were loaded.
    """

    def __init__(self, most_samples: int, version: str = trt.__version__) -> None:
        self.caches: list[bytes] = []
        self.most_samples = most_samples
        enumerations = ("DataType", "TensorIOMode", "DynamicShapesKernelSpecializationStrategy", "ComputeCapability")
        self.module = SimpleNamespace(
            __version__=version,
            ILogger=trt.ILogger,
            Runtime=self._runtime,
            **{name: getattr(trt, name) for name in enumerations},
        )

    def _runtime(self, messages: Any) -> Strict:
        assert isinstance(messages, trt.ILogger)
        return Strict(trt.Runtime, {"deserialize_cuda_engine": lambda content: self._engine(bytes(content))})

    def _engine(self, content: bytes) -> Strict:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])  # type: ignore[attr-defined]
        nodes = {node.name: node for node in (*session.get_inputs(), *session.get_outputs())}
        inputs = [node.name for node in session.get_inputs()]

        def shape(name: str, count: int = -1) -> Any:
            return trt.Dims([count if isinstance(size, str) else size for size in nodes[name].shape])

        def mode(name: str) -> Any:
            return trt.TensorIOMode.INPUT if name in inputs else trt.TensorIOMode.OUTPUT

        def profile(name: str, _index: int) -> Any:
            return [shape(name, count) for count in (1, 1, self.most_samples)]

        return Strict(
            trt.ICudaEngine,
            {
                "num_io_tensors": len(nodes),
                "get_tensor_name": list(nodes).__getitem__,
                "get_tensor_mode": mode,
                "get_tensor_shape": shape,
                "get_tensor_dtype": lambda name: _TYPES[nodes[name].type],
                "get_tensor_profile_shape": profile,
                "create_runtime_config": self._config,
                "create_execution_context": lambda _config: self._context(session, nodes, inputs, shape),
            },
        )

    def _config(self) -> Strict:
        def load(content: bytes) -> bool:
            self.caches.append(content)
            return True

        cache = Strict(
            trt.IRuntimeCache, {"deserialize": load, "serialize": lambda: np.frombuffer(b"kernels", np.uint8)}
        )
        answers = {"create_runtime_cache": lambda: cache, "set_runtime_cache": lambda given: given is cache}
        return Strict(trt.IRuntimeConfig, answers)

    def _context(self, session: Any, nodes: Any, inputs: Any, shape: Callable[..., Any]) -> Strict:
        shapes: dict[str, tuple[int, ...]] = {}
        addresses: dict[str, int] = {}

        def set_shape(name: str, given: tuple[int, ...]) -> bool:
            count = max(
                (there for there, size in zip(given, nodes[name].shape, strict=True) if isinstance(size, str)),
                default=1,
            )
            shapes[name] = given
            return given == tuple(shape(name, count)) and count <= self.most_samples

        def output_shape(name: str) -> Any:
            return shape(name, shapes["noise"][0] if "noise" in shapes else 1)

        def execute(_stream: int) -> bool:
            feeds = {name: _array(addresses[name], shapes[name], _TYPES[nodes[name].type]) for name in inputs}
            names = [name for name in nodes if name not in inputs]
            for name, value in zip(names, session.run(names, feeds), strict=True):
                assert value.shape == tuple(output_shape(name))
                ctypes.memmove(addresses[name], value.ctypes.data, value.nbytes)
            return True

        return Strict(
            trt.IExecutionContext,
            {
                "set_input_shape": set_shape,
                "set_tensor_address": lambda name, address: addresses.update({name: address}) is None,
                "infer_shapes": lambda: [name for name in inputs if name not in shapes],
                "get_tensor_shape": output_shape,
                "execute_async_v3": execute,
            },
        )


def _array(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    kind = np.dtype(_NUMPY[dtype])
    count = int(np.prod(shape))
    return np.frombuffer(ctypes.string_at(address, count * kind.itemsize), kind).reshape(shape)


class Cuda:
    """What stands in for the module cuda.bindings.runtime on a machine with `count` GPUs.

    Attributes:
        blocks: memory that was allocated, by address.
    """

    def __init__(self, capability: str = "sm89", count: int = 1) -> None:
        self.blocks: dict[int, Any] = {}
        self._major, self._minor, self._count = int(capability[2:-1]), int(capability[-1]), count

    def __getattr__(self, name: str) -> Any:
        real, answer = getattr(cuda, name), getattr(type(self), f"_{name}", None)
        if isinstance(real, type) or not callable(real):
            return real

        def call(*arguments: Any) -> tuple[Any, ...]:
            signature = re.match(rf"{name}\((.*)\)", real.__doc__ or "")
            assert signature is not None and answer is not None, name
            expected = [part for part in signature[1].split(", ") if part]
            assert len(arguments) == len(expected), f"{name}({signature[1]}) takes no {arguments}"
            found = answer(self, *arguments)
            return (cuda.cudaError_t.cudaSuccess, *(() if found is None else (found,)))

        call.__name__ = name
        return call

    def _cudaGetDeviceCount(self) -> int:
        return self._count

    def _cudaDeviceGetAttribute(self, kind: Any, device: int) -> int:
        major = kind == cuda.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor
        return self._major if major else self._minor

    def _cudaSetDevice(self, device: int) -> None:
        assert 0 <= device < self._count

    def _cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == cuda.cudaStreamNonBlocking
        return cuda.cudaStream_t(7)

    def _cudaStreamSynchronize(self, stream: int) -> None:
        assert stream == 7

    def _cudaMalloc(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def _cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: int) -> None:
        to_device = kind == cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        assert (target if to_device else source) in self.blocks and stream == 7
        assert size <= ctypes.sizeof(self.blocks[target if to_device else source])
        ctypes.memmove(target, source, size)
