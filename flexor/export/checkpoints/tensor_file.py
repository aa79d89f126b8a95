"""TensorFile: one safetensors file whose header was read and checked, and whose tensors are read piece by piece."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flexor.export.checkpoints.checkpoint_error import CheckpointError

SIZES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes of an element, by the dtype names of safetensors."""

CHUNK_BYTES = 16 << 20
LARGEST_HEADER = 100 << 20  # bytes, safetensors' own limit


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        file: the safetensors file.
        dtype: key of SIZES.
        shape: its shape.
        offset: of its first byte in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.elements * SIZES[self.dtype]

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Its bytes in order, a few MiB at a time; each piece is only valid until the next is asked for.

        Read with plain reads into one buffer: a memory map would count every page it touched as memory in use.

        Raises:
            CheckpointError: the file ends early or cannot be read.
        """
        buffer = bytearray(min(self.nbytes, CHUNK_BYTES))
        try:
            with self.file.open("rb", buffering=0) as stream:
                stream.seek(self.offset)
                left = self.nbytes
                while left:
                    view = memoryview(buffer)[: min(left, len(buffer))]
                    filled = 0
                    while filled < len(view):
                        if not (read := stream.readinto(view[filled:])):
                            raise CheckpointError(f"{self.file} ended early; download it again")
                        filled += read
                    yield np.frombuffer(view, np.uint8)
                    left -= len(view)
        except OSError as error:
            raise CheckpointError(f"{self.file} cannot be read: {error.strerror}") from error

    def numbers(self) -> NDArray[np.float64]:
        """All of a small tensor as float64, for statistics.

        Raises:
            CheckpointError: the file ends early, or the numbers are no floating point.
        """
        raw = b"".join(piece.tobytes() for piece in self.chunks())
        if self.dtype == "BF16":
            flat = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif self.dtype in ("F16", "F32", "F64"):
            flat = np.frombuffer(raw, {"F16": np.float16, "F32": np.float32, "F64": np.float64}[self.dtype])
        else:
            raise CheckpointError(f"{self.file}: statistics are stored as {self.dtype}; expected floating point")
        return flat.astype(np.float64).reshape(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name, from its header alone.

    Raises:
        CheckpointError: no such file, not safetensors, cut short, or a header that contradicts itself.
    """
    try:
        size = os.path.getsize(path)
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 2 <= length <= LARGEST_HEADER:
                raise CheckpointError(f"{path} is not a safetensors file; give the folder of a checkpoint")
            raw = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); download it again") from error
    if len(raw) < length:
        raise _cut_short(path, size, 8 + length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        tensors = {name: _locate(path, entry, 8 + length) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged safetensors header ({error!r}); download it again") from error
    end = 8 + length
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset != end:
            raise CheckpointError(f"{path}: {name} does not begin where the tensor before it ends; download it again")
        end += tensor.nbytes
    if size < end:
        raise _cut_short(path, size, end)
    if size > end:
        raise CheckpointError(f"{path} is {size} bytes and its header says {end}; download it again")
    return tensors


def _locate(path: Path, entry: dict[str, object], data: int) -> StoredTensor:
    dtype, shape, (first, last) = str(entry["dtype"]), entry["shape"], entry["data_offsets"]  # type: ignore[misc]
    if dtype not in SIZES:
        raise ValueError(f"dtype {dtype} is unknown")
    tensor = StoredTensor(path, dtype, tuple(int(side) for side in shape), data + int(first))  # type: ignore[union-attr]
    if int(last) - int(first) != tensor.nbytes or min(tensor.shape, default=0) < 0:
        raise ValueError(f"{dtype} {list(tensor.shape)} does not take {int(last) - int(first)} bytes")
    return tensor


def _cut_short(path: Path, found: int, expected: int) -> CheckpointError:
    return CheckpointError(
        f"{path} was cut short: it is {found} bytes, its header says {expected}; download it again"
        " (flexor download goes on where it stopped)"
    )
