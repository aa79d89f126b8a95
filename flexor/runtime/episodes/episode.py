"""Reads a finished episode file back into arrays."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from mcap.exceptions import McapError
from mcap.records import Channel, Message
from mcap.stream_reader import StreamReader
from numpy.typing import NDArray

from flexor.runtime.episodes.corrections import Correction, read_corrections
from flexor.runtime.episodes.episode_schema import (
    ADVISER,
    CAMERA_PREFIX,
    SCHEMA_VERSION,
    EpisodeError,
    EpisodeMeta,
    message_type,
)
from flexor.runtime.episodes.frame_codec import decode_frame
from flexor.runtime.observation import ActionChunk, Provenance

# What mcap and protobuf raise on damaged bytes: its own errors, a failed CRC (ValueError), a short unpack, a bad tag.
DAMAGE = (McapError, ValueError, struct.error, DecodeError, OverflowError, KeyError)


class Frames(Mapping[int, NDArray[np.uint8]]):
    """The frames of one camera by step; each is decoded to uint8 [height, width, 3] when it is asked for."""

    def __init__(self) -> None:
        self._data: dict[int, bytes] = {}
        self._digests: dict[int, bytes] = {}

    def __getitem__(self, step: int) -> NDArray[np.uint8]:
        return decode_frame(self._data[step])

    def __iter__(self) -> Iterator[int]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def encoded(self, step: int) -> bytes:
        """The JPEG or PNG bytes as they lie in the file."""
        return self._data[step]

    def digest(self, step: int) -> bytes:
        """frame_digest of the raw frame that was recorded."""
        return self._digests[step]

    def _put(self, step: int, data: bytes | None = None, digest: bytes | None = None) -> None:
        if data is not None:
            self._data[step] = data
        if digest is not None:
            self._digests[step] = digest


@dataclass(frozen=True, slots=True)
class RecordedChunk:
    """A plan as it came: its first action was meant for `step`; `time_s` since the episode began."""

    step: int
    time_s: float
    chunk: ActionChunk


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """What happened at `step`; `time_s` since the episode began."""

    step: int
    time_s: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode of T recorded steps.

    Attributes:
        id: the file's name without ending.
        meta: what it is an episode of.
        started_ns: when it began, Unix time in nanoseconds.
        duration_s: wall time from begin to end, seconds; a simulated episode may run faster than steps / hz.
        outcome, label, source: how it ended, a word for how it failed (or None), and who judged.
        recovered: whether its writer was killed, so that the last records may be missing.
        images: "jpeg" or "png".
        steps: int64 [T], increasing.
        times: float64 [T], seconds since the episode began.
        states: float32 [T, S] before the action.
        actions: float32 [T, A] as played.
        labels: float32 [T, A] as an expert would have played; the action where none was given.
        interventions: bool [T].
        advised: bool [T], where somebody said what they would do and left the arm to the policy: labels has it.
        plans: float32 [P, A] by step, what who advised would have played from there on; of few steps, or none.
        frames: by camera name, then by step.
        chunks, events: in the order they came.
        corrections: what an operator said of it later, oldest first; the last one is in outcome, label and source.
    """

    id: str
    meta: EpisodeMeta
    started_ns: int
    duration_s: float
    outcome: str
    label: str | None
    source: str
    recovered: bool
    images: str
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    labels: NDArray[np.float32]
    interventions: NDArray[np.bool_]
    advised: NDArray[np.bool_]
    plans: Mapping[int, NDArray[np.float32]]
    frames: Mapping[str, Frames]
    chunks: tuple[RecordedChunk, ...]
    events: tuple[RecordedEvent, ...]
    corrections: tuple[Correction, ...] = ()


def read_episode(path: Path | str) -> Episode:
    """Read a finished episode, every CRC checked, and what was said of it later (flexor.runtime.episodes.corrections).

    Raises:
        EpisodeError: it is open, torn or damaged, or its corrections are.
    """
    path = Path(path)
    records: dict[str, list[_Record]] = {}
    try:
        for channel, message in read_messages(path):
            kind = message_type(channel.topic)
            if kind is not None:
                record = _Record(message.sequence, message.log_time, kind.FromString(message.data))
                records.setdefault(channel.topic, []).append(record)
        return _corrected(_assemble(path, records), read_corrections(path))
    except OSError as error:
        raise EpisodeError(
            f"cannot read episode {path}: {error}; `flexor episodes list` names those there are"
        ) from error
    except DAMAGE as error:
        raise EpisodeError(
            f"episode {path} is unfinished or damaged ({type(error).__name__}: {error}); "
            "`flexor episodes verify --repair` keeps what is whole"
        ) from error


def _corrected(episode: Episode, corrections: tuple[Correction, ...]) -> Episode:
    if not corrections:
        return episode
    last = corrections[-1]
    return replace(episode, outcome=last.outcome, label=last.label, source="operator", corrections=corrections)


def read_messages(path: Path) -> Iterator[tuple[Channel, Message]]:
    """Every message in the order of the file, CRCs checked; raises one of DAMAGE at the first torn record."""
    channels: dict[int, Channel] = {}
    for record in open_reader(path.read_bytes(), validate_crcs=True).records:
        if isinstance(record, Channel):
            channels[record.id] = record
        elif isinstance(record, Message):
            yield channels[record.channel_id], record


def open_reader(data: bytes, *, emit_chunks: bool = False, validate_crcs: bool = False) -> StreamReader:
    """A reader over the bytes of a file that may be damaged."""
    # From memory, because a flipped length field makes mcap ask a file for terabytes at once.
    return StreamReader(
        io.BytesIO(data), emit_chunks=emit_chunks, validate_crcs=validate_crcs, record_size_limit=len(data)
    )


@dataclass(frozen=True, slots=True)
class _Record:
    step: int
    log_time: int
    body: Any


def _assemble(path: Path, records: Mapping[str, list[_Record]]) -> Episode:
    for topic in ("/episode/begin", "/episode/end"):
        if len(records.get(topic, ())) != 1:
            raise ValueError(f"it holds {len(records.get(topic, ()))} messages on {topic}, not 1")
    begin, end = records["/episode/begin"][0], records["/episode/end"][0]
    head = begin.body
    if head.schema_version != SCHEMA_VERSION:
        raise EpisodeError(
            f"episode {path} has schema version {head.schema_version}, this flexor reads {SCHEMA_VERSION}; "
            "read it with the flexor that wrote it"
        )
    steps = [record.body for record in records.get("/step", ())]
    frames = {camera: Frames() for camera in head.cameras}
    for camera in head.cameras:
        for record in records.get(CAMERA_PREFIX + camera, ()):
            frames[camera]._put(record.step, data=record.body.data)
    for record in records.get("/frames", ()):
        for frame in record.body.frames:
            frames[frame.camera]._put(record.body.step, digest=frame.digest)
    since = begin.log_time
    extra = json.loads(head.extra_json)
    advice = ADVISER in extra
    return Episode(
        id=head.id,
        meta=EpisodeMeta(
            robot=head.robot,
            task=head.task,
            prompt=head.prompt,
            seed=head.seed,
            bundle=head.bundle,
            adapter=head.adapter,
            hz=head.hz,
            cameras=tuple(head.cameras),
            extra=extra,
        ),
        started_ns=since,
        duration_s=(end.log_time - since) / 1e9,
        outcome=end.body.outcome,
        label=end.body.label or None,
        source=end.body.source,
        recovered=end.body.recovered,
        images=head.images,
        steps=np.array([step.step for step in steps], np.int64),
        times=np.array([(record.log_time - since) / 1e9 for record in records.get("/step", ())], np.float64),
        states=_rows([step.state for step in steps]),
        actions=_rows([step.action for step in steps]),
        labels=_rows([step.label or step.action for step in steps]),
        interventions=np.array([step.intervention for step in steps], np.bool_),
        advised=np.array([advice and len(step.label) > 0 and not step.intervention for step in steps], np.bool_),
        plans={step.step: _rows([step.plan]).reshape(-1, len(step.action)) for step in steps if step.plan},
        frames=frames,
        chunks=tuple(
            RecordedChunk(record.body.step, (record.log_time - since) / 1e9, _chunk(record.body))
            for record in records.get("/chunk", ())
        ),
        events=tuple(
            RecordedEvent(
                record.body.step, (record.log_time - since) / 1e9, record.body.kind, json.loads(record.body.data_json)
            )
            for record in records.get("/event", ())
        ),
    )


def _rows(rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    return np.array([list(row) for row in rows], np.float32).reshape(len(rows), len(rows[0]) if rows else 0)


def _chunk(body: Any) -> ActionChunk:
    return ActionChunk(
        actions=np.array(list(body.actions), np.float32).reshape(body.horizon, body.action_dim),
        provenance=Provenance(
            bundle=body.bundle,
            adapter=body.adapter,
            engine=body.engine,
            provider=body.provider,
            precision=body.precision,
            flow_steps=body.flow_steps,
            noise_seed=body.noise_seed,
        ),
        timing_ms={entry.name: entry.value for entry in body.timing_ms},
        scores={entry.name: entry.value for entry in body.scores},
    )
