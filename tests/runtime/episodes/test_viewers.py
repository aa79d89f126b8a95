"""What Foxglove and Rerun make of an episode file, asked of their own Python packages."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import foxglove
import numpy as np
import pytest
from foxglove.messages import CompressedImage, Timestamp
from google.protobuf import descriptor_pb2
from mcap.reader import make_reader
from mcap.records import Channel, Message, Schema
from mcap_protobuf.decoder import DecoderFactory
from rerun.chunk import McapReader, RrdReader

from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.recovery import recover
from flexor.runtime.episodes.rerun_recording import write_rerun

TOPICS = {
    "/episode/begin": "flexor.Begin",
    "/step": "flexor.Step",
    "/frames": "flexor.Frames",
    "/chunk": "flexor.Chunk",
    "/event": "flexor.Event",
    "/episode/end": "flexor.End",
    "/camera/agentview": "foxglove.CompressedImage",
    "/camera/wrist": "foxglove.CompressedImage",
}


@pytest.fixture(params=["jpeg", "png"])
def path(request, tmp_path, record, state, action) -> Path:
    """A finished episode of 13 steps, the last one an expert's, with frames and chunks at every fifth."""
    recorder = record(tmp_path, images=request.param)
    recorder.step(12, state(12), action(12), label=action(13), intervention=True)
    recorder.event(12, "hold", {"why": "no | chunk"})
    return recorder.end("success", None, "sim")


def raw_messages(path: Path) -> list[tuple[Schema, Channel, Message]]:
    with path.open("rb") as stream:
        found = []
        for schema, channel, message in make_reader(stream).iter_messages(log_time_order=False):
            assert schema is not None
            found.append((schema, channel, message))
        return found


def table(chunk: Any) -> dict[str, list[Any]]:
    """The columns of a chunk; times and durations as nanoseconds."""
    batch = chunk.to_record_batch()
    return {
        name: (column.cast("int64") if str(column.type).startswith(("timestamp", "duration")) else column).to_pylist()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }


def columns(chunks: Iterable[Any]) -> dict[str, list[Any]]:
    """ "entity component" -> the values of its rows, in the order of their times; one value a row is unpacked."""
    rows: dict[str, list[tuple[int, Any]]] = {}
    for chunk in chunks:
        data = table(chunk)
        times = data.get("message_log_time") or data.get("step") or [0] * chunk.num_rows
        for name, values in data.items():
            if ":" in name:
                rows.setdefault(f"{chunk.entity_path} {name}", []).extend(zip(times, values, strict=True))
    return {
        name: [
            value[0] if isinstance(value, list) and len(value) == 1 else value
            for _, value in sorted(values, key=lambda row: row[0])
        ]
        for name, values in rows.items()
    }


def encoded(episode: Episode, camera: str) -> list[list[int]]:
    return [list(episode.frames[camera].encoded(step)) for step in episode.frames[camera]]


def test_every_topic_has_the_schema_and_the_times_that_foxglove_asks_for(path):
    messages = raw_messages(path)
    assert {channel.topic: schema.name for schema, channel, _ in messages} == TOPICS
    assert {(channel.message_encoding, schema.encoding) for schema, channel, _ in messages} == {
        ("protobuf", "protobuf")
    }
    times = [message.log_time for _, _, message in messages]
    assert times == sorted(times)
    assert all(message.publish_time == message.log_time for _, _, message in messages)
    assert abs(times[0] / 1e9 - path.stat().st_mtime) < 3600  # nanoseconds since 1970, not milliseconds or a counter


def test_frames_are_what_foxglove_itself_would_have_written(path):
    episode = read_episode(path)
    with path.open("rb") as stream:
        decoded = list(make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages())
    frames = [found for found in decoded if found.channel.topic.startswith("/camera/")]
    assert len(frames) == 6
    for found in frames:
        body = found.decoded_message
        assert body.format == episode.images  # a word of the schema's documentation
        assert found.channel.topic == f"/camera/{body.frame_id}"
        assert body.timestamp.ToNanoseconds() == found.message.log_time
        seconds, nanoseconds = divmod(found.message.log_time, 10**9)
        theirs = CompressedImage(
            timestamp=Timestamp(seconds, nanoseconds), frame_id=body.frame_id, data=body.data, format=body.format
        )
        again = type(body)()
        again.ParseFromString(theirs.encode())
        assert again == body
    ours, official = frames[0].schema, CompressedImage.get_schema()
    assert ours is not None
    assert (ours.name, ours.encoding) == (official.name, official.encoding)
    assert fields(ours.data, "CompressedImage") == fields(official.data, "CompressedImage")


def fields(schema: bytes, name: str) -> dict[str, tuple[int, int, str]]:
    described = descriptor_pb2.FileDescriptorSet.FromString(schema)
    (message,) = [entry for file in described.file for entry in file.message_type if entry.name == name]
    return {entry.name: (entry.number, entry.type, entry.type_name) for entry in message.field}


def test_foxglove_takes_every_channel_and_writes_the_same_messages(path, tmp_path):
    messages = raw_messages(path)
    copy, context = tmp_path / "copy.mcap", foxglove.Context()
    with foxglove.open_mcap(copy, context=context):
        channels = {}
        for schema, channel, message in messages:
            if channel.topic not in channels:
                described = foxglove.Schema(name=schema.name, encoding=schema.encoding, data=schema.data)
                channels[channel.topic] = foxglove.Channel(
                    channel.topic, message_encoding=channel.message_encoding, schema=described, context=context
                )
            channels[channel.topic].log(message.data, log_time=message.log_time)
    copied = raw_messages(copy)
    assert [(c.topic, s.name, s.data, m.log_time, m.data) for s, c, m in copied] == [
        (c.topic, s.name, s.data, m.log_time, m.data) for s, c, m in messages
    ]


def test_rerun_reads_the_file_as_it_is(path):
    episode, messages = read_episode(path), raw_messages(path)
    reader = McapReader(path)
    info = reader.info()
    counts = {topic: sum(channel.topic == topic for _, channel, _ in messages) for topic in TOPICS}
    assert {channel.topic: channel.message_count for channel in info.channels} == counts
    found = columns(reader.stream())
    for camera in ("agentview", "wrist"):
        assert found[f"/camera/{camera} EncodedImage:blob"] == encoded(episode, camera)
        assert found[f"/camera/{camera} EncodedImage:media_type"] == [f"image/{episode.images}"] * 3
    steps = found["/step flexor.Step:message"]
    np.testing.assert_array_equal(np.array([step["state"] for step in steps], np.float32), episode.states)
    np.testing.assert_array_equal(np.array([step["action"] for step in steps], np.float32), episode.actions)
    assert [step["intervention"] for step in steps] == [False] * 12 + [True]
    scores = [
        {score["name"]: score["value"] for score in row["scores"]} for row in found["/chunk flexor.Chunk:message"]
    ]
    assert scores == [recorded.chunk.scores for recorded in episode.chunks]
    assert found["/episode/begin flexor.Begin:message"][0]["prompt"] == episode.meta.prompt
    # Every message came through a decoder for it, not as bytes that nobody understands.
    assert not [name for name in found if "McapMessage" in name]


def test_rerun_reads_what_is_left_of_a_killed_recorder(tmp_path, record):
    recorder = record(tmp_path)
    (part,) = (tmp_path / "episodes").glob("*.part")
    whole = part.read_bytes()
    recorder.close()
    torn = tmp_path / part.name
    torn.write_bytes(whole[:-100])
    steps = columns(McapReader(recover(torn)).stream())["/step flexor.Step:message"]
    assert [step["step"] for step in steps] == list(range(len(steps)))
    assert len(steps) >= 11


def test_a_recording_for_rerun_holds_frames_plots_and_events_on_the_robots_own_time(path, tmp_path):
    episode = read_episode(path)
    write_rerun(episode, tmp_path / "new" / "first.rrd")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["first.rrd"]
    chunks = list(RrdReader(tmp_path / "new" / "first.rrd").stream())
    found = columns(chunks)
    for camera in ("agentview", "wrist"):
        assert found[f"/camera/{camera} EncodedImage:blob"] == encoded(episode, camera)
    np.testing.assert_array_equal(found["/state Scalars:scalars"], episode.states)
    np.testing.assert_array_equal(found["/action Scalars:scalars"], episode.actions)
    np.testing.assert_array_equal(found["/expert Scalars:scalars"], [episode.labels[12]])
    assert found["/intervention Scalars:scalars"] == [0.0] * 12 + [1.0]
    for name in ("accel", "ace_bits"):
        values = [recorded.chunk.scores[name] for recorded in episode.chunks if name in recorded.chunk.scores]
        assert found[f"/scores/{name} Scalars:scalars"] == values
        assert found[f"/scores/{name} SeriesLines:names"] == [name]
    assert found["/timing_ms/encode Scalars:scalars"] == [1.25] * 3
    assert found["/events TextLog:text"] == ["hold {'why': 'no | chunk'}"]
    assert "lift the red cube" in found["/episode TextDocument:text"][0]
    for chunk in chunks:
        if not chunk.is_static:
            data = table(chunk)
            assert data["time"] == [step * 50_000_000 for step in data["step"]]


def test_its_layout_has_a_view_for_every_camera_and_every_score(path, tmp_path):
    write_rerun(read_episode(path), tmp_path / "first.rrd")
    reader = RrdReader(tmp_path / "first.rrd")
    (layout,) = reader.blueprints()
    views = columns(reader.stream(store=layout))
    names = {value for name, values in views.items() if name.endswith("display_name") for value in values}
    expected = {"agentview", "wrist", "episode", "action", "state", "expert", "intervention", "timing_ms", "events"}
    assert names == expected | {"scores/accel", "scores/ace_bits"}


def test_a_recording_that_cannot_be_written_is_named_and_the_package_that_is_missing_too(path, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(EpisodeError, match=r"cannot write the recording .*taken/first\.rrd: .*choose another file"):
        write_rerun(read_episode(path), tmp_path / "taken" / "first.rrd")
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(EpisodeError, match=r"needs the package rerun-sdk.*pip install 'flexor\[rerun\]'"):
        write_rerun(read_episode(path), tmp_path / "first.rrd")
    assert not (tmp_path / "first.rrd").exists()
