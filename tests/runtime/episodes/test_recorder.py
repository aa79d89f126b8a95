"""What is recorded is what is read back; what cannot be recorded says so."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_check import check_file
from flexor.runtime.episodes.episode_schema import EpisodeError, EpisodeMeta
from flexor.runtime.episodes.frame_codec import frame_digest
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.episodes.recovery import recover
from flexor.runtime.observation import ActionChunk


def test_every_number_comes_back_exactly(tmp_path, record, meta, state, action, chunk):
    recorder = record(tmp_path, steps=12)
    expert = np.array([0.1, -0.0, np.nextafter(np.float32(1), np.float32(2)), 1e-38, 3.4e38, -1, 1], np.float32)
    recorder.step(12, state(12), action(12), label=expert, intervention=True)
    recorder.event(12, "guard", {"axis": np.int64(2), "limit_m": np.float32(0.5), "at": np.zeros(2)})
    episode = read_episode(recorder.end("failure", "grasp_slip", "sim"))

    assert episode.meta == meta
    assert (episode.outcome, episode.label, episode.source) == ("failure", "grasp_slip", "sim")
    assert not episode.recovered
    np.testing.assert_array_equal(episode.steps, np.arange(13))
    assert (episode.states.dtype, episode.actions.dtype, episode.steps.dtype) == (np.float32, np.float32, np.int64)
    np.testing.assert_array_equal(episode.states, np.stack([state(step) for step in range(13)]))
    np.testing.assert_array_equal(episode.actions, np.stack([action(step) for step in range(13)]))
    np.testing.assert_array_equal(episode.labels[:12], episode.actions[:12])
    assert episode.labels[12].tobytes() == expert.tobytes()
    np.testing.assert_array_equal(episode.interventions, np.arange(13) == 12)
    assert [recorded.step for recorded in episode.chunks] == [0, 5, 10]
    for recorded in episode.chunks:
        expected = chunk(recorded.step)
        np.testing.assert_array_equal(recorded.chunk.actions, expected.actions)
        assert recorded.chunk.provenance == expected.provenance
        assert recorded.chunk.scores == expected.scores
        assert recorded.chunk.timing_ms == expected.timing_ms
    event = episode.events[0]
    assert (event.step, event.kind, event.data) == (12, "guard", {"axis": 2, "limit_m": 0.5, "at": [0.0, 0.0]})
    assert np.all(np.diff(episode.times) > 0)
    assert episode.duration_s >= episode.times[-1]


def test_a_state_that_is_not_finite_is_recorded_as_it_was(tmp_path, meta, action):
    recorder = EpisodeRecorder(tmp_path)
    recorder.begin(meta)
    recorder.step(0, np.array([np.nan, np.inf, 0], np.float32), action(0))
    episode = read_episode(recorder.end("abort", None, "sim"))
    np.testing.assert_array_equal(episode.states, np.array([[np.nan, np.inf, 0]], np.float32))


def test_png_frames_come_back_pixel_for_pixel(tmp_path, record, frame):
    episode = read_episode(record(tmp_path, images="png", size=64).end("success", None, "sim"))
    assert sorted(episode.frames) == ["agentview", "wrist"]
    assert list(episode.frames["wrist"]) == [0, 5, 10]
    for step in (0, 5, 10):
        np.testing.assert_array_equal(episode.frames["wrist"][step], frame(step, 64))


def test_jpeg_frames_come_back_close_and_name_the_frame_they_were_made_of(tmp_path, record, frame):
    episode = read_episode(record(tmp_path, size=128).end("success", None, "sim"))
    for step in (0, 5, 10):
        raw, seen = frame(step, 128), episode.frames["agentview"][step]
        difference = np.abs(raw.astype(int) - seen)
        assert difference.max() <= 16
        assert difference.mean() <= 2.0
        assert episode.frames["agentview"].digest(step) == frame_digest(raw)


def test_a_demonstration_is_small(tmp_path, meta, frame, state, action):
    recorder = EpisodeRecorder(tmp_path)
    recorder.begin(meta)
    for step in range(75):
        if step % 2 == 0:
            recorder.frames(step, {camera: frame(step, 128) for camera in meta.cameras})
        recorder.step(step, state(step), action(step), label=action(step + 1))
    path = recorder.end("success", None, "sim")
    images = sum(len(frames.encoded(step)) for frames in read_episode(path).frames.values() for step in frames)
    assert path.stat().st_size - images < 80_000
    assert path.stat().st_size < 1_000_000


def test_an_mcap_reader_that_knows_nothing_of_flexor_decodes_every_topic(tmp_path, record):
    recorder = record(tmp_path)
    recorder.event(11, "hold", {})
    path = recorder.end("success", None, "sim")
    with path.open("rb") as stream:
        decoded = list(make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages())
    topics = {message.channel.topic: message for message in decoded}
    assert set(topics) == {
        *("/episode/begin", "/step", "/frames", "/chunk", "/event", "/episode/end"),
        *("/camera/agentview", "/camera/wrist"),
    }
    image = topics["/camera/wrist"]
    assert image.schema is not None
    assert image.schema.name == "foxglove.CompressedImage"
    assert (image.decoded_message.format, image.decoded_message.data[:2]) == ("jpeg", b"\xff\xd8")
    assert topics["/step"].message.sequence == topics["/step"].decoded_message.step == 11


def test_an_episode_without_steps_is_an_episode(tmp_path, meta):
    recorder = EpisodeRecorder(tmp_path)
    recorder.begin(meta)
    path = recorder.end("abort", None, "operator")
    episode = read_episode(path)
    assert (len(episode.steps), len(episode.frames["wrist"]), check_file(path)) == (0, 0, [])


def test_end_twice_and_begin_twice_are_errors_and_harm_nothing(tmp_path, record, meta):
    recorder = record(tmp_path, steps=3)
    with pytest.raises(EpisodeError, match=r"still open; call end\(\)"):
        recorder.begin(meta)
    path = recorder.end("success", None, "sim")
    with pytest.raises(EpisodeError, match=r"no episode is open; call begin\(\)"):
        recorder.end("failure", None, "sim")
    assert read_episode(path).outcome == "success"
    recorder.begin(meta)
    assert recorder.end("failure", None, "sim") != path


@pytest.mark.parametrize(
    ("wrong_state", "wrong_action", "wrong_label", "message"),
    [
        (np.zeros(8), np.zeros(7, np.float32), None, r"state is float64 of shape \(8,\); give float32"),
        ([0.0] * 8, np.zeros(7, np.float32), None, "state is a list; give a numpy array of float32"),
        (np.zeros((1, 8), np.float32), np.zeros(7, np.float32), None, r"state is float32 of shape \(1, 8\)"),
        (np.zeros(9, np.float32), np.zeros(7, np.float32), None, r"state has shape \(9,\), earlier .* \(8,\)"),
        (np.zeros(8, np.float32), np.zeros(6, np.float32), None, r"action has shape \(6,\), earlier .* \(7,\)"),
        (np.zeros(8, np.float32), np.zeros(7, np.float32), np.zeros(6, np.float32), r"label has shape \(6,\)"),
        (np.zeros(8, np.float32), np.zeros(0, np.float32), None, r"action is float32 of shape \(0,\)"),
    ],
)
def test_wrong_shapes_and_types_of_a_step_say_what_is_expected(
    tmp_path, record, wrong_state, wrong_action, wrong_label, message
):
    recorder = record(tmp_path, steps=2)
    with pytest.raises(EpisodeError, match=message):
        recorder.step(2, wrong_state, wrong_action, wrong_label)
    episode = read_episode(recorder.end("success", None, "sim"))
    assert len(episode.steps) == 2


def test_wrong_frames_say_what_is_expected(tmp_path, record, frame):
    recorder = record(tmp_path, steps=1)
    good = frame(1, 16)
    with pytest.raises(EpisodeError, match=r"come from \['wrist'\], but the episode has \['agentview', 'wrist'\]"):
        recorder.frames(1, {"wrist": good})
    with pytest.raises(EpisodeError, match="frame of agentview is float32"):
        recorder.frames(1, {"agentview": good.astype(np.float32), "wrist": good})
    with pytest.raises(EpisodeError, match=r"frame of wrist has shape \(16, 16, 4\)"):
        recorder.frames(1, {"agentview": good, "wrist": np.zeros((16, 16, 4), np.uint8)})
    with pytest.raises(EpisodeError, match="frames of step 0 are recorded already"):
        recorder.frames(0, {"agentview": good, "wrist": good})
    recorder.frames(1, {"agentview": good, "wrist": good})
    assert list(read_episode(recorder.end("success", None, "sim")).frames["wrist"]) == [0, 1]


def test_steps_go_forward(tmp_path, record, state, action):
    recorder = record(tmp_path, steps=3)
    for step in (2, -1, 1.5, 2**32):
        with pytest.raises(EpisodeError, match=r"step is .*give an integer of at least 3"):
            recorder.step(step, state(0), action(0))
    recorder.step(7, state(0), action(0))
    assert read_episode(recorder.end("unknown", None, "recorder")).steps.tolist() == [0, 1, 2, 7]


def test_words_and_data_that_do_not_exist_are_refused(tmp_path, record, chunk):
    recorder = record(tmp_path, steps=1)
    with pytest.raises(EpisodeError, match='outcome is "won"; give one of success, failure, abort, unknown'):
        recorder.end("won", None, "sim")
    with pytest.raises(EpisodeError, match='source is "guess"; give one of sim'):
        recorder.end("success", None, "guess")
    with pytest.raises(EpisodeError, match="label is an empty string"):
        recorder.end("failure", "", "sim")
    with pytest.raises(EpisodeError, match="event data cannot be written as JSON: PosixPath"):
        recorder.event(0, "note", {"file": Path("x")})
    with pytest.raises(EpisodeError, match="actions of the chunk is float64"):
        recorder.chunk(0, ActionChunk(np.zeros((10, 7)), chunk(0).provenance))  # pyright: ignore[reportArgumentType]
    with pytest.raises(EpisodeError, match="a message on /chunk cannot hold what it was given"):
        recorder.chunk(0, replace(chunk(0), provenance=replace(chunk(0).provenance, noise_seed=-1)))
    with pytest.raises(EpisodeError, match='images is "webp"; give one of jpeg, png'):
        EpisodeRecorder(tmp_path, images="webp")
    assert recorder.end("success", None, "sim").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": -1}, "seed -1"), ({"hz": 0.0}, "hz is 0.0"), ({"cameras": ("a", "a")}, "occurs twice")],
)
def test_a_description_is_checked_at_birth(change, message):
    fields = {"robot": "r", "task": "t", "prompt": "p", "seed": 0, "bundle": "b", "adapter": "base", "hz": 20.0}
    with pytest.raises(EpisodeError, match=message):
        EpisodeMeta(**({**fields, "cameras": ("a",)} | change))


def test_leaving_the_context_ends_an_open_episode_as_an_abort_that_nobody_judged(tmp_path, record):
    with pytest.raises(RuntimeError, match="arm unplugged"), record(tmp_path, steps=4):
        raise RuntimeError("arm unplugged")
    row = EpisodeIndex(tmp_path).episodes()[0]
    assert (row.outcome, row.source, row.steps) == ("abort", "recorder", 4)


def test_a_root_that_cannot_be_written_is_named(tmp_path, meta):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(EpisodeError, match=r"cannot write episode .*taken.*free the disk or record elsewhere"):
        EpisodeRecorder(tmp_path / "taken").begin(meta)


def test_a_full_disk_surfaces_and_what_was_written_can_be_recovered(tmp_path):
    script = """
import sys, numpy as np
from flexor.runtime.episodes.episode_schema import EpisodeError, EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
recorder = EpisodeRecorder(sys.argv[1])
meta = EpisodeMeta("r", "t", "p", 0, "b", "base", 20.0, ())
recorder.begin(meta)
zeros = np.zeros(8, np.float32)
try:
    for step in range(100_000):
        recorder.step(step, zeros, zeros)
except EpisodeError as error:
    print(step, error)
for again in (lambda: recorder.step(step + 1, zeros, zeros), lambda: recorder.end("success", None, "sim")):
    try:
        again()
    except EpisodeError as error:
        print(error)
recorder.begin(meta)
recorder.close()
"""
    limit = (60_000, 60_000)
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    first, second, third = child.stdout.splitlines()
    assert "File too large" in first
    assert "free the disk" in first
    assert "failed before and takes no more records" in second
    assert "failed before and takes no more records" in third
    left = list((tmp_path / "episodes").glob("*.mcap.part"))
    assert len(left) == 1
    episode = read_episode(recover(left[0]))
    assert len(episode.steps) == int(first.split()[0])


def test_the_recorder_needs_neither_torch_nor_mujoco():
    script = "import sys; from flexor.runtime.episodes import recorder, episode_check, gif; "
    script += "print([name for name in ('torch', 'mujoco') if name in sys.modules])"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert child.stdout.strip() == "[]"
