"""Plain values and arrays as one msgpack blob: an array becomes a map of its bytes, dtype and shape.

The map is the one that openpi's client and server use: the byte keys __ndarray__, data, dtype and shape.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from flexor.errors import FlexorError


def pack(values: dict[str, Any]) -> bytes:
    """One blob of `values`, in which arrays may stand anywhere."""
    packed = msgpack.packb(values, default=_as_map)
    assert packed is not None
    return packed


def unpack(blob: bytes | memoryview) -> dict[str, Any]:
    """What was packed; arrays are read-only views of the bytes that msgpack took out of the blob.

    Raises:
        FlexorError: not such a blob.
    """
    try:
        values = msgpack.unpackb(blob, object_hook=_as_array)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise FlexorError(f"a peer sent {len(blob)} bytes that are no packed message: {error}") from error
    if not isinstance(values, dict):
        raise FlexorError(f"a peer sent a {type(values).__name__}; expected a map")
    return values


def _as_map(value: object) -> dict[bytes, Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} cannot be packed")
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}


def _as_array(entries: dict[Any, Any]) -> Any:
    if b"__ndarray__" not in entries:
        return entries
    return np.frombuffer(entries[b"data"], np.dtype(entries[b"dtype"])).reshape(entries[b"shape"])
