"""One episode file being written: checks each record, gives it a time, and leaves it flushed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from mcap.well_known import MessageEncoding
from mcap.writer import CompressionType, Writer
from mcap_protobuf.schema import register_schema
from numpy.typing import NDArray

from flexor.runtime.disk import sync
from flexor.runtime.episodes.episode_schema import (
    CAMERA_PREFIX,
    SCHEMA_VERSION,
    TOPICS,
    EpisodeError,
    EpisodeMeta,
    message_type,
    to_json,
)
from flexor.runtime.episodes.frame_codec import encode_frame, frame_digest
from flexor.runtime.observation import ActionChunk


class EpisodeWriter:
    """One file being written. Every method leaves a whole, flushed MCAP chunk behind it, with its CRC."""

    def __init__(self, root: Path, meta: EpisodeMeta, images: str) -> None:
        self._meta, self._images = meta, images
        self._wall_ns, self._monotonic_ns = time.time_ns(), time.monotonic_ns()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._wall_ns // 10**9))
        self.id = f"{stamp}Z-{secrets.token_hex(4)}"
        self.path = root / "episodes" / f"{self.id}.mcap"
        self.part = self.path.with_suffix(".mcap.part")
        self.failed = False
        self._last_step = -1
        self._frame_steps: set[int] = set()
        self._shapes: dict[str, tuple[int, ...]] = {}
        begin = _message(
            "/episode/begin",
            schema_version=SCHEMA_VERSION,
            id=self.id,
            robot=meta.robot,
            task=meta.task,
            prompt=meta.prompt,
            seed=int(meta.seed),
            bundle=meta.bundle,
            adapter=meta.adapter,
            hz=meta.hz,
            cameras=meta.cameras,
            images=images,
            extra_json=to_json("extra of the episode", meta.extra),
        )
        self._stream = _create(self.part)
        with self._disk():
            self._writer = open_writer(self._stream)
            self._channels = {topic: self._register(topic) for topic in self._topics()}
        self._write(0, {"/episode/begin": begin})

    def frames(self, step: int, images: Mapping[str, NDArray[np.uint8]]) -> None:
        step = _checked_step(step, 0)
        if set(images) != set(self._meta.cameras):
            raise EpisodeError(
                f"frames of step {step} come from {sorted(images)}, but the episode has {sorted(self._meta.cameras)}; "
                "give every camera of the meta and no other"
            )
        if step in self._frame_steps:
            raise EpisodeError(f"frames of step {step} are recorded already; record each step's frames once")
        for camera in self._meta.cameras:
            self._check(f"frame of {camera}", images[camera], np.uint8, 3)
            if images[camera].shape[2] != 3:
                raise EpisodeError(f"frame of {camera} has shape {images[camera].shape}; give [height, width, 3] RGB")
        now = self._now()
        messages: dict[str, Any] = {"/frames": _message("/frames", step=step)}
        for camera in self._meta.cameras:
            image = images[camera]
            message = CompressedImage(frame_id=camera, format=self._images, data=encode_frame(image, self._images))
            message.timestamp.FromNanoseconds(now)
            messages[CAMERA_PREFIX + camera] = message
            messages["/frames"].frames.add(
                camera=camera, height=image.shape[0], width=image.shape[1], digest=frame_digest(image)
            )
        self._write(step, messages, now)
        self._frame_steps.add(step)

    def step(
        self,
        step: int,
        state: NDArray[np.float32],
        action: NDArray[np.float32],
        label: NDArray[np.float32] | None,
        intervention: bool,
        plan: NDArray[np.float32] | None,
    ) -> None:
        step = _checked_step(step, self._last_step + 1)
        self._check("state", state, np.float32, 1)
        self._check("action", action, np.float32, 1)
        if label is not None:
            self._check("label", label, np.float32, 1)
            if label.shape != action.shape:
                raise EpisodeError(f"label has shape {label.shape}, the action {action.shape}; give the same")
        if plan is not None:
            self._check("plan", plan, np.float32, 2)
            if plan.shape[1:] != action.shape:
                raise EpisodeError(f"plan has shape {plan.shape}; give rows of the action's shape {action.shape}")
        message = _message(
            "/step",
            step=step,
            state=state.tolist(),
            action=action.tolist(),
            label=() if label is None else label.tolist(),
            intervention=intervention,
            plan=() if plan is None else plan.ravel().tolist(),
        )
        self._write(step, {"/step": message})
        self._last_step = step

    def chunk(self, step: int, chunk: ActionChunk) -> None:
        step = _checked_step(step, 0)
        self._check("actions of the chunk", chunk.actions, np.float32, 2)
        by = chunk.provenance
        message = _message(
            "/chunk",
            step=step,
            horizon=chunk.actions.shape[0],
            action_dim=chunk.actions.shape[1],
            actions=chunk.actions.ravel().tolist(),
            bundle=by.bundle,
            adapter=by.adapter,
            engine=by.engine,
            provider=by.provider,
            precision=by.precision,
            flow_steps=by.flow_steps,
            noise_seed=by.noise_seed,
            timing_ms=[{"name": name, "value": value} for name, value in chunk.timing_ms.items()],
            scores=[{"name": name, "value": value} for name, value in chunk.scores.items()],
        )
        self._write(step, {"/chunk": message})

    def event(self, step: int, kind: str, data: Mapping[str, Any]) -> None:
        step = _checked_step(step, 0)
        if not kind:
            raise EpisodeError("event kind is empty; give a word for what happened")
        self._write(step, {"/event": _message("/event", step=step, kind=kind, data_json=to_json("event data", data))})

    def end(self, outcome: str, label: str | None, source: str) -> Path:
        message = _message("/episode/end", outcome=outcome, label=label or "", source=source)
        self._write(max(self._last_step, 0), {"/episode/end": message})
        with self._disk():
            self._writer.finish()
            self._stream.flush()
            os.fsync(self._stream.fileno())
            os.rename(self.part, self.path)
            self._stream.close()
            sync(self.path.parent)
        return self.path

    def _write(self, step: int, messages: Mapping[str, Any], now: int | None = None) -> None:
        if self.failed:
            raise EpisodeError(f"{self.part} failed before and takes no more records; begin() a new episode")
        now = self._now() if now is None else now
        with self._disk():
            for topic, message in messages.items():
                self._writer.add_message(self._channels[topic], now, message.SerializeToString(), now, step)
            self._writer.flush()

    def _check(self, name: str, array: object, dtype: type[np.generic], dims: int) -> None:
        """The right type, and the same shape each time; a chunk may have another horizon."""
        if not isinstance(array, np.ndarray):
            raise EpisodeError(f"{name} is a {type(array).__name__}; give a numpy array of {np.dtype(dtype)}")
        if array.dtype != dtype or array.ndim != dims or array.size == 0:
            raise EpisodeError(
                f"{name} is {array.dtype} of shape {array.shape}; give {np.dtype(dtype)} with {dims} dimension(s)"
            )
        shape = array.shape[1:] if dims == 2 else array.shape
        expected = self._shapes.setdefault(name, shape)
        if shape != expected:
            raise EpisodeError(
                f"{name} has shape {array.shape}, earlier in this episode {expected}; it must not change"
            )

    def _now(self) -> int:
        # Anchored once: a clock that is set while an episode runs must not reorder its records.
        return self._wall_ns + time.monotonic_ns() - self._monotonic_ns

    def _topics(self) -> list[str]:
        return [*TOPICS, *(CAMERA_PREFIX + camera for camera in self._meta.cameras)]

    def _register(self, topic: str) -> int:
        schema = register_schema(self._writer, message_type(topic))
        return self._writer.register_channel(topic, MessageEncoding.Protobuf, schema)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            # Closing flushes once more what could not be written, and the error says so already.
            with contextlib.suppress(OSError):
                self._stream.close()
            raise _disk_error(self.part, error) from error


def open_writer(stream: BinaryIO) -> Writer:
    """A started MCAP writer with the settings of every episode file: CRCs on everything, no compression."""
    # Small chunks leave nothing to compress: the images are compressed already, and a step is some 100 bytes.
    writer = Writer(stream, compression=CompressionType.NONE, enable_data_crcs=True)
    writer.start(profile="", library="flexor")
    return writer


def _message(topic: str, **fields: Any) -> Any:
    try:
        return TOPICS[topic](**fields)
    except (TypeError, ValueError) as error:
        raise EpisodeError(f"a message on {topic} cannot hold what it was given: {error}; mend the value") from error


def _checked_step(step: int, lowest: int) -> int:
    if not isinstance(step, int | np.integer) or not lowest <= step < 2**32:
        raise EpisodeError(f"step is {step!r}; give an integer of at least {lowest}, in the order of the episode")
    return int(step)


def _create(part: Path) -> BinaryIO:
    unlocked = part.with_suffix(".new")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = unlocked.open("xb")
        # Tells recover() that somebody still writes here; the system lets go of it when this process dies. Only then
        # does the file take its name: a check that finds it without its lock would take it for a killed writer's.
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unlocked, part)
    except OSError as error:
        raise _disk_error(part, error) from error
    return stream


def _disk_error(part: Path, error: OSError) -> EpisodeError:
    return EpisodeError(
        f"cannot write episode {part}: {error}; free the disk or record elsewhere, "
        "`flexor episodes verify --repair` keeps what was written"
    )
