"""Makes a valid episode of what a killed writer, a torn disk or a flipped bit left of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import breakup_chunk
from mcap.writer import Writer

from flexor.runtime.disk import sync
from flexor.runtime.episodes.episode import DAMAGE, open_reader
from flexor.runtime.episodes.episode_files import hold_file
from flexor.runtime.episodes.episode_schema import TOPICS, EpisodeError
from flexor.runtime.episodes.episode_writer import open_writer


class NothingToKeep(EpisodeError):
    """An episode file in which not even the beginning is whole."""


@dataclass(slots=True)
class _Salvage:
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    dropped: int = 0

    def on(self, topic: str) -> list[Message]:
        return [message for message in self.messages if self.channels[message.channel_id].topic == topic]


def recover(path: Path | str) -> Path:
    """Rewrite an unfinished (`.mcap.part`) or damaged (`.mcap`) episode as a finished one, and return its path.

    Whole MCAP chunks are kept, up to the first torn record; a chunk whose CRC fails is left out, the ones behind it
    are kept. An episode without its end gets the outcome "unknown" from the source "recorder". A part file is
    removed when its episode is safely on disk; a damaged file stays beside the new one as `.mcap.damaged`.

    Raises:
        NothingToKeep: the beginning is not whole; the file is left as it is.
        EpisodeError: a living process still writes the file, or the disk refuses.
    """
    path = Path(path)
    try:
        with hold_file(path) as stream:
            return _rewrite(path, _salvage(stream.read()))
    except OSError as error:
        raise EpisodeError(f"cannot recover {path}: {error}; free the disk or mend its permissions") from error


def _salvage(data: bytes) -> _Salvage:
    found = _Salvage()
    for chunk in _chunks(data):
        try:
            records = breakup_chunk(chunk, validate_crc=True)
        except DAMAGE:
            found.dropped += 1
            continue
        for record in records:
            if isinstance(record, Schema):
                found.schemas[record.id] = record
            elif isinstance(record, Channel):
                found.channels[record.id] = record
            elif isinstance(record, Message) and record.channel_id in found.channels:
                found.messages.append(record)
    return found


def _chunks(data: bytes) -> Iterator[Chunk]:
    records = iter(open_reader(data, emit_chunks=True).records)
    while True:
        try:
            record = next(records)
        except (StopIteration, *DAMAGE):
            return
        if isinstance(record, Chunk):
            yield record


def _rewrite(path: Path, found: _Salvage) -> Path:
    if len(found.on("/episode/begin")) != 1:
        raise NothingToKeep(f"{path} holds no episode that can be kept: its beginning is gone; delete the file")
    target = path.with_suffix("") if path.suffix == ".part" else path
    draft = target.with_suffix(".mcap.recovering")
    with draft.open("wb") as stream:
        writer = open_writer(stream)
        _copy(writer, found)
        writer.finish()
        stream.flush()
        os.fsync(stream.fileno())
    damaged = path.with_suffix(".mcap.damaged")
    if target == path and not damaged.exists():
        os.link(path, damaged)
    os.replace(draft, target)
    sync(target.parent)
    if target != path:
        path.unlink()
    return target


def _copy(writer: Writer, found: _Salvage) -> None:
    schemas = {
        old: writer.register_schema(schema.name, schema.encoding, schema.data) for old, schema in found.schemas.items()
    }
    channels = {
        old: writer.register_channel(channel.topic, channel.message_encoding, schemas[channel.schema_id])
        for old, channel in found.channels.items()
    }
    ends = found.on("/episode/end")
    for message in found.messages:
        if found.channels[message.channel_id].topic != "/episode/end":
            writer.add_message(
                channels[message.channel_id], message.log_time, message.data, message.publish_time, message.sequence
            )
    end = TOPICS["/episode/end"](outcome="unknown", source="recorder", recovered=True)
    last = found.messages[-1]
    if ends:
        last = ends[0]
        end = TOPICS["/episode/end"].FromString(last.data)
        end.recovered = end.recovered or found.dropped > 0
    end_channel = next(new for old, new in channels.items() if found.channels[old].topic == "/episode/end")
    writer.add_message(end_channel, last.log_time, end.SerializeToString(), last.log_time, last.sequence)
