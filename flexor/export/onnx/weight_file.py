"""WeightFile: the weights of one ONNX file, beside it, written one after the other."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flexor.export.onnx.graph_file import SMALLEST_EXTERNAL

ALIGNED = 4096  # bytes: a weight begins at a page, so that it can be mapped


class WeightFile:
    """FILE.data of an ONNX file; a context manager.

    Args:
        graph: the ONNX file, which need not be there yet.
    """

    def __init__(self, graph: Path) -> None:
        self.path = graph.with_name(f"{graph.name}.data")
        self._stream = self.path.open("wb")

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()

    def put(self, tensor: TensorProto, values: NDArray[np.generic]) -> None:
        """Give an empty initialiser its numbers: here, or in itself where they are few.

        Args:
            tensor: gets dtype and place of the numbers.
            values: of its shape.
        """
        assert tuple(tensor.dims) == values.shape, f"{tensor.name} is {list(tensor.dims)}, not {list(values.shape)}"
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        if values.nbytes < SMALLEST_EXTERNAL:
            tensor.raw_data = values.tobytes()
            return
        offset = -(-self._stream.tell() // ALIGNED) * ALIGNED
        self._stream.seek(offset)
        self._stream.write(np.ascontiguousarray(values).data)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": self.path.name, "offset": offset, "length": values.nbytes}.items():
            tensor.external_data.add(key=key, value=str(value))
