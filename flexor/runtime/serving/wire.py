"""The codec of the wire: one msgpack header and one raw frame an array, both ways, with limits and typed errors.

A message is `[header][frame]...`. The header is a msgpack map `{"v": 1, "type": str, "id": int, ..., "arrays":
[{"name", "dtype", "shape"}, ...]}`; the frames follow in that order, C-contiguous and little-endian. What the keys
of each type mean is not known here (flexor.runtime.serving.schema knows), nor are sockets.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError

PROTOCOL_VERSION = 1
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADER_ITEMS = 1024  # of one list or map; msgpack makes room for what a list only claims, at every depth
MAX_ARRAYS = 16
MAX_TOTAL_BYTES = 32 * 1024 * 1024
MAX_DIMENSIONS = 8
MAX_NAME_CHARS = 128
MAX_ID = 2**63 - 1
DTYPES: Mapping[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "float32": np.dtype("<f4"),
    "int64": np.dtype("<i8"),
}
_RESERVED = ("v", "type", "id", "arrays")
ENTRY = frozenset({"name", "dtype", "shape"})
_TEXT = {str}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}  # the name that numpy makes itself costs microseconds

Frame = bytes | memoryview


class WireError(FlexorError):
    """A message that breaks the protocol.

    Attributes:
        code: what a program branches on: bad_message, bad_version, too_large, bad_array, bad_memory, and from
            the schema unknown_type, unknown_key, missing_key, bad_value.
        request_id: the id of the message where it could still be read, so that its sender gets an answer with it.
    """

    def __init__(self, code: str, message: str, request_id: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Message:
    """One decoded message.

    Attributes:
        type: the kind of request or reply.
        id: chosen by the asker, repeated in the reply; None only in an error reply to something without a legible id.
        fields: every other key of the header.
        arrays: by name; uint8, float32 or int64; read-only views of the received frames when decoded.
    """

    type: str
    id: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def encode(message: Message) -> list[Frame]:
    """Header and array frames of `message`. Frames are views: the arrays must not change until they are sent.

    Raises:
        WireError: a limit is exceeded, a dtype is not of the wire, or a key is reserved.
    """
    table: list[dict[str, Any]] = []
    frames: list[Frame] = []
    for name, array in message.arrays.items():
        dtype = _DTYPE_NAMES.get(array.dtype) or array.dtype.name
        if dtype not in DTYPES:
            raise WireError("bad_array", f"array {name!r} has dtype {dtype}; the wire carries {_names(DTYPES)}")
        if array.size == 0:
            raise WireError("bad_array", f"array {name!r} of shape {array.shape} is empty; leave it out instead")
        table.append({"name": name, "dtype": dtype, "shape": list(array.shape)})
        frames.append(np.ascontiguousarray(array, DTYPES[dtype]).data.cast("B"))
    for key in _RESERVED:
        if key in message.fields:
            raise WireError("bad_message", f"field {key!r} of a {message.type} message is reserved; rename it")
    if len(frames) > MAX_ARRAYS:
        raise WireError("too_large", f"{len(frames)} arrays in a {message.type} message; at most {MAX_ARRAYS} fit")
    head = {"v": PROTOCOL_VERSION, "type": message.type, "id": message.id, **message.fields, "arrays": table}
    try:
        header = msgpack.packb(head, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError("bad_message", f"header of a {message.type} message: {error}; use plain values") from error
    assert header is not None
    _check_sizes([header, *frames], None)
    return [header, *frames]


def decode(frames: Sequence[Frame]) -> Message:
    """The message in `frames` as received (without the routing identity). Arrays are read-only views of the frames.

    Raises:
        WireError: for anything else than a well-formed message of this protocol version; never another exception.
    """
    head = _header(frames)
    request_id = _legible_id(head)
    version = head.get("v")
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise WireError(
            "bad_version",
            f"protocol version {short(version)}; this side speaks {PROTOCOL_VERSION}: use the same flexor release",
            request_id,
        )
    kind = head.get("type")
    if not isinstance(kind, str) or not 0 < len(kind) <= MAX_NAME_CHARS:
        raise WireError("bad_message", f"type {short(kind)}; expected a word", request_id)
    if request_id is None and not (kind == "error" and head.get("id", 0) is None):
        raise WireError("bad_message", f"id {short(head.get('id'))}; expected an integer from 0 to 2**63-1")
    _check_sizes(frames, request_id)
    arrays = _arrays(head.get("arrays"), frames[1:], request_id)
    for key in _RESERVED:
        head.pop(key, None)
    return Message(kind, request_id, head, arrays)


def _header(frames: Sequence[Frame]) -> dict[str, Any]:
    """The header map alone; the size limit is checked before the parser sees a byte."""
    if not frames:
        raise WireError("bad_message", "no frame at all; expected a header and one frame an array")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise WireError("too_large", f"header of {len(frames[0])} bytes; at most {MAX_HEADER_BYTES} are read")
    try:
        head = msgpack.unpackb(frames[0], max_array_len=MAX_HEADER_ITEMS, max_map_len=MAX_HEADER_ITEMS, max_ext_len=0)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise WireError("bad_message", f"header is not msgpack ({type(error).__name__}: {error})") from error
    if not isinstance(head, dict):
        raise WireError("bad_message", f"header is a {type(head).__name__}; expected a map")
    if head and set(map(type, head)) != _TEXT:
        raise WireError("bad_message", "header has keys that are not text", _legible_id(head))
    return head


def _legible_id(head: Mapping[Any, Any]) -> int | None:
    value = head.get("id")
    return value if type(value) is int and 0 <= value <= MAX_ID else None


def _check_sizes(frames: Sequence[Frame], request_id: int | None) -> None:
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise WireError("too_large", f"header of {len(frames[0])} bytes; at most {MAX_HEADER_BYTES} fit", request_id)
    if len(frames) - 1 > MAX_ARRAYS:
        raise WireError("too_large", f"{len(frames) - 1} array frames; at most {MAX_ARRAYS} fit", request_id)
    total = sum(map(len, frames))
    if total > MAX_TOTAL_BYTES:
        raise WireError("too_large", f"message of {total} bytes; at most {MAX_TOTAL_BYTES} fit", request_id)


def _arrays(table: object, frames: Sequence[Frame], request_id: int | None) -> dict[str, NDArray[Any]]:
    if not isinstance(table, list) or len(table) != len(frames):
        listed = len(table) if isinstance(table, list) else short(table)
        raise WireError("bad_array", f"'arrays' lists {listed} but {len(frames)} frames follow", request_id)
    arrays: dict[str, NDArray[Any]] = {}
    for entry, frame in zip(table, frames, strict=True):
        expected = array_bytes(entry, arrays, request_id, ENTRY)
        if expected != len(frame):
            raise WireError(
                "bad_array",
                f"{entry['name']!r} as {entry['dtype']} {entry['shape']} takes {expected} bytes; its frame has"
                f" {len(frame)}",
                request_id,
            )
        arrays[entry["name"]] = array_in(entry, frame)
    return arrays


def array_bytes(entry: Any, others: Container[str], request_id: int | None, keys: Set[str]) -> int:
    """How many bytes the array takes that `entry` of a table describes.

    Args:
        entry: a map of exactly these `keys`, name, dtype and shape among them.
        others: names that are taken.

    Raises:
        WireError: bad_array.
    """
    if not isinstance(entry, dict) or entry.keys() != keys:
        raise WireError("bad_array", f"array entry {short(entry)}; expected {_names(sorted(keys))}", request_id)
    name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS or name in others:
        raise WireError("bad_array", f"array name {short(name)}; expected a new, short word", request_id)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError("bad_array", f"{name!r} has dtype {short(dtype)}; expected {_names(DTYPES)}", request_id)
    expected = DTYPES[dtype].itemsize * _count(shape)
    if not expected:
        raise WireError("bad_array", f"{name!r} has shape {short(shape)}; expected positive integers", request_id)
    return expected


def array_in(entry: Mapping[str, Any], frame: Frame) -> NDArray[Any]:
    """The array that a checked `entry` describes: a read-only view of `frame`, which has its bytes."""
    array: NDArray[Any] = np.ndarray(entry["shape"], DTYPES[entry["dtype"]], frame)
    array.setflags(write=False)
    return array


def _count(shape: object) -> int:
    """How many numbers an array of `shape` holds; 0 when it is no shape."""
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_DIMENSIONS:
        return 0
    count = 1
    for extent in shape:
        if type(extent) is not int or not 0 < extent <= MAX_TOTAL_BYTES:
            return 0
        count *= extent
    return count


def _names(table: Iterable[str]) -> str:
    return ", ".join(table)


def short(value: object) -> str:
    """A value of a stranger, short enough for an error message."""
    try:
        text = repr(value)
    except RecursionError:  # msgpack reads deeper nests than repr does
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
