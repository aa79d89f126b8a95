"""Writes a bundle's weights from a checkpoint's, a few MiB at a time, whatever the size of both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.tensor_file import SIZES, StoredTensor

FLOATS = ("F32", "BF16", "F16")
KEPT_WIDE = re.compile(
    r"vision\.(patch_embedding\.\w+|position_embedding)|prefix_norm\.\w+|expert\.norm\..+"
    r"|(prefix_layers|expert\.layers)\.\d+\.(attention_norm|mlp_norm)\..+|(action_(in|out)_proj|time_mlp_(in|out))\.\w+"
)
"""Tensors that stay as they are stored when the others become bf16: those that openpi's own inference keeps in fp32."""

OnBytes = Callable[[int, int], None]
"""Told (bytes written, bytes in all) now and then."""


@dataclass(frozen=True, slots=True)
class Written:
    """One tensor of the bundle's weight file.

    Attributes:
        name: in the bundle.
        source: where it comes from.
        shape: in the bundle; as many elements as the source's.
        dtype: in the bundle.
    """

    name: str
    source: StoredTensor
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes in the bundle."""
        return self.source.elements * SIZES[self.dtype]


def choose_dtype(name: str, source: StoredTensor, wanted: str) -> str:
    """dtype of a tensor in the bundle; `wanted` is "source" or "bf16".

    Raises:
        CheckpointError: it is stored in a dtype that weights cannot have.
    """
    if source.dtype not in FLOATS:
        raise CheckpointError(
            f"{source.file}: the tensor for {name} is {source.dtype}; expected {', '.join(FLOATS)}: save the plain"
            " model in one of these"
        )
    return source.dtype if wanted == "source" or KEPT_WIDE.fullmatch(name) else "BF16"


def write_weights(path: Path, tensors: Sequence[Written], on_bytes: OnBytes = lambda done, total: None) -> None:
    """Write a safetensors file.

    Raises:
        CheckpointError: a source ends early, or holds a number that is not finite.
    """
    # Wide elements first, so that every tensor begins at a multiple of its element.
    ordered = sorted(tensors, key=lambda tensor: (-SIZES[tensor.dtype], tensor.name))
    header, offset = {}, 0
    for tensor in ordered:
        span = [offset, offset + tensor.nbytes]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": span}
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    done = 0
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor in ordered:
            for piece in _converted(tensor):
                stream.write(piece.data)
                done += piece.nbytes
                on_bytes(done, offset)


def _converted(tensor: Written) -> Iterator[NDArray[np.generic]]:
    source = tensor.source
    for chunk in source.chunks():
        if not _all_finite(chunk, source.dtype):
            raise CheckpointError(
                f"{source.file}: the tensor for {tensor.name} holds numbers that are not finite; the file is damaged or"
                " its training diverged: download it again, or take an earlier checkpoint"
            )
        if tensor.dtype == source.dtype:
            yield chunk
        else:
            wide = chunk.view(np.float32) if source.dtype == "F32" else chunk.view(np.float16).astype(np.float32)
            yield round_to_bf16(wide)


def round_to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even, of finite float32."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def _all_finite(chunk: NDArray[np.uint8], dtype: str) -> bool:
    if dtype == "BF16":
        exponent = chunk.view(np.uint16) & np.uint16(0x7F80)
        return bool((exponent != 0x7F80).all())
    return bool(np.isfinite(chunk.view(np.float32 if dtype == "F32" else np.float16)).all())
