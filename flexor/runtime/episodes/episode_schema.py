"""What an episode file holds: its topics, its protobuf messages, its words, and its description.

The messages are described in tables here instead of generated code: what is written into the file's schema records
is exactly what the tables say, so any reader of MCAP and protobuf (Foxglove, Rerun) can decode them without flexor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from flexor.errors import FlexorError

SCHEMA_VERSION = 1
OUTCOMES = ("success", "failure", "abort", "unknown")
SOURCES = ("sim", "operator", "classifier", "recorder")  # recorder: nobody judged, the program stopped or was killed
CAMERA_PREFIX = "/camera/"
ADVISER = "adviser"
"""Key of EpisodeMeta.extra: whose advice the labels of steps are in which nobody intervened."""
ENTROPY_EVENT, ALARM_EVENT = "entropy", "alarm"  # kinds of event: scores of a chunk; a calibrated score above 2.0

_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
}

# One proto file a message with its parts, because every MCAP schema record carries its whole file.
_FILES: dict[str, dict[str, dict[str, str]]] = {
    "Begin": {
        "Begin": {
            "schema_version": "uint32",
            "id": "string",
            "robot": "string",
            "task": "string",
            "prompt": "string",
            "seed": "uint64",
            "bundle": "string",
            "adapter": "string",
            "hz": "double",
            "cameras": "repeated string",
            "images": "string",
            "extra_json": "string",
        }
    },
    "Step": {
        "Step": {
            "step": "uint32",
            "state": "repeated float",
            "action": "repeated float",
            "label": "repeated float",
            "intervention": "bool",
            "plan": "repeated float",
        }
    },
    "Frames": {
        "Frame": {"camera": "string", "height": "uint32", "width": "uint32", "digest": "bytes"},
        "Frames": {"step": "uint32", "frames": "repeated Frame"},
    },
    "Chunk": {
        "NamedValue": {"name": "string", "value": "double"},
        "Chunk": {
            "step": "uint32",
            "horizon": "uint32",
            "action_dim": "uint32",
            "actions": "repeated float",
            "bundle": "string",
            "adapter": "string",
            "engine": "string",
            "provider": "string",
            "precision": "string",
            "flow_steps": "uint32",
            "noise_seed": "uint64",
            "timing_ms": "repeated NamedValue",
            "scores": "repeated NamedValue",
        },
    },
    "Event": {"Event": {"step": "uint32", "kind": "string", "data_json": "string"}},
    "End": {"End": {"outcome": "string", "label": "string", "source": "string", "recovered": "bool"}},
}


class EpisodeError(FlexorError):
    """An episode cannot be written, read, recovered or indexed."""


@dataclass(frozen=True, slots=True)
class EpisodeMeta:
    """What an episode is an episode of; known before the first step.

    Attributes:
        robot: as on the command line, e.g. "sim:tabletop".
        task: the robot's name of the task.
        prompt: the sentence that the policy is given.
        seed: of Robot.reset, 0 <= seed < 2**64.
        bundle: name@hash of the policy's bundle, or who else acts ("oracle").
        adapter: adapter id, "base" when none is carried.
        hz: control rate (1/s).
        cameras: camera names; every frames() call brings exactly these.
        extra: anything else worth keeping, as JSON.
    """

    robot: str
    task: str
    prompt: str
    seed: int
    bundle: str
    adapter: str
    hz: float
    cameras: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if not 0 <= self.seed < 2**64:
            raise EpisodeError(f"episode seed {self.seed} does not fit; give an integer of 0 <= seed < 2**64")
        if not (np.isfinite(self.hz) and self.hz > 0):
            raise EpisodeError(f"episode hz is {self.hz}; give the control rate, a number above 0 (1/s)")
        if len(set(self.cameras)) != len(self.cameras):
            raise EpisodeError(f"a camera name occurs twice in {list(self.cameras)}; name each camera once")


def to_json(what: str, data: Mapping[str, Any]) -> str:
    """`data` as compact JSON; numpy numbers and arrays become plain ones. Raises EpisodeError naming `what`."""
    try:
        return json.dumps(dict(data), separators=(",", ":"), default=_plain)
    except (TypeError, ValueError) as error:
        raise EpisodeError(
            f"{what} cannot be written as JSON: {error}; give a dict of numbers, strings and lists"
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _build_messages() -> dict[str, type[Any]]:
    pool = descriptor_pool.DescriptorPool()
    messages: dict[str, type[Any]] = {}
    for main, parts in _FILES.items():
        file = descriptor_pb2.FileDescriptorProto(name=f"flexor/{main}.proto", package="flexor", syntax="proto3")
        for name, fields in parts.items():
            message = file.message_type.add(name=name)
            for number, (field_name, spec) in enumerate(fields.items(), start=1):
                kind = spec.removeprefix("repeated ")
                entry = message.field.add(name=field_name, number=number)
                entry.label = entry.LABEL_REPEATED if spec != kind else entry.LABEL_OPTIONAL
                if kind in _TYPES:
                    entry.type = _TYPES[kind]
                else:
                    entry.type, entry.type_name = entry.TYPE_MESSAGE, f".flexor.{kind}"
        pool.Add(file)
        messages[main] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"flexor.{main}"))
    return messages


MESSAGES = _build_messages()
TOPICS: dict[str, type[Any]] = {
    "/episode/begin": MESSAGES["Begin"],
    "/step": MESSAGES["Step"],
    "/frames": MESSAGES["Frames"],
    "/chunk": MESSAGES["Chunk"],
    "/event": MESSAGES["Event"],
    "/episode/end": MESSAGES["End"],
}


def message_type(topic: str) -> type[Any] | None:
    """The message class of a topic; None for a topic that flexor does not write."""
    if topic.startswith(CAMERA_PREFIX):
        return CompressedImage
    return TOPICS.get(topic)
