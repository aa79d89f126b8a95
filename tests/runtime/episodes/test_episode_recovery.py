"""Torn and damaged files become valid ones again, and every flipped byte is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_check import check_file
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.recovery import recover


@pytest.fixture
def part(tmp_path, record) -> Path:
    """A copy of the file of an open episode: 12 steps, 3 frame pairs, 3 chunks, no end."""
    recorder = record(tmp_path / "live")
    open_file = next((tmp_path / "live" / "episodes").glob("*.part"))
    copy = tmp_path / open_file.name
    shutil.copy(open_file, copy)
    recorder.close()
    return copy


@pytest.fixture
def finished(tmp_path, record) -> Path:
    """A finished file of the same episode."""
    return record(tmp_path / "done").end("failure", "timeout", "sim")


def plain_reader_messages(path: Path) -> int:
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        count = sum(1 for _ in reader.iter_messages())
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == count
    return count


def test_a_whole_part_file_keeps_everything(part, state, action):
    episode = read_episode(recover(part))
    assert (episode.outcome, episode.source, episode.recovered) == ("unknown", "recorder", True)
    np.testing.assert_array_equal(episode.states, np.stack([state(step) for step in range(12)]))
    np.testing.assert_array_equal(episode.actions, np.stack([action(step) for step in range(12)]))
    assert list(episode.frames["wrist"]) == [0, 5, 10]
    assert len(episode.chunks) == 3
    assert not part.exists()


def test_a_part_file_torn_anywhere_keeps_what_lies_before_the_tear(part, tmp_path, state):
    whole = part.read_bytes()
    kept = []
    for size in range(len(whole) - 1, len(whole) // 3, -301):
        torn = tmp_path / part.name
        torn.write_bytes(whole[:size])
        path = recover(torn)
        assert check_file(path) == []
        assert plain_reader_messages(path) > 0
        episode = read_episode(path)
        np.testing.assert_array_equal(episode.steps, np.arange(len(episode.steps)))
        for step in range(len(episode.steps)):
            np.testing.assert_array_equal(episode.states[step], state(step))
        kept.append(len(episode.steps))
    assert kept == sorted(kept, reverse=True)
    assert kept[0] >= 11 > kept[-1]


def test_zeros_at_the_end_as_a_power_cut_leaves_them_are_dropped(part):
    part.write_bytes(part.read_bytes()[:-500] + bytes(4096))
    assert 0 < len(read_episode(recover(part)).steps) < 12


def test_a_truncated_finished_file_is_refused_then_recovered_and_the_original_kept(finished):
    original = finished.read_bytes()[:-2000]
    finished.write_bytes(original)
    with pytest.raises(EpisodeError, match=r"unfinished or damaged.*verify --repair"):
        read_episode(finished)
    assert recover(finished) == finished
    assert check_file(finished) == []
    assert plain_reader_messages(finished) > 0
    assert finished.with_suffix(".mcap.damaged").read_bytes() == original


def test_damage_in_the_middle_costs_one_chunk_and_not_the_outcome(finished):
    data = bytearray(finished.read_bytes())
    at = data.find(b"\xff\xd8", len(data) // 4)  # the first bytes of some JPEG
    data[at + 100] ^= 0x10
    finished.write_bytes(data)
    assert any("crc validation failed" in problem for problem in check_file(finished))
    episode = read_episode(recover(finished))
    assert (episode.outcome, episode.label, episode.recovered) == ("failure", "timeout", True)
    assert len(episode.steps) == 12
    assert len(episode.frames["wrist"]) == 2


def test_damage_in_the_first_chunk_leaves_no_episode_and_says_so(finished):
    data = bytearray(finished.read_bytes())
    data[data.index(b"lift the red cube")] ^= 1
    finished.write_bytes(data)
    with pytest.raises(EpisodeError, match="holds no episode that can be kept: its beginning is gone"):
        recover(finished)
    assert finished.read_bytes() == data


def test_a_file_killed_between_its_last_byte_and_its_new_name_keeps_its_outcome(finished):
    part = finished.rename(finished.with_suffix(".mcap.part"))
    episode = read_episode(recover(part))
    assert (episode.outcome, episode.label, episode.recovered) == ("failure", "timeout", False)


def test_a_recovery_that_was_killed_itself_is_done_again(part):
    part.with_suffix("").with_suffix(".mcap.recovering").write_bytes(b"half a file")
    path = recover(part)
    assert check_file(path) == []
    assert [file.suffix for file in path.parent.glob("2*")] == [".mcap"]


def test_a_file_whose_writer_lives_is_refused(tmp_path, record):
    recorder = record(tmp_path)
    live = next((tmp_path / "episodes").glob("*.part"))
    with pytest.raises(EpisodeError, match="is still being recorded"):
        recover(live)
    recorder.end("success", None, "sim")


@pytest.mark.parametrize("content", [b"", b"\x89MCAP0\r\n", bytes(300), b"no episode at all" * 20])
def test_a_file_without_a_beginning_is_refused_and_left(tmp_path, content):
    part = tmp_path / "x.mcap.part"
    part.write_bytes(content)
    with pytest.raises(EpisodeError, match=r"x\.mcap\.part holds no episode that can be kept.*delete the file"):
        recover(part)
    assert part.read_bytes() == content


def test_a_file_that_is_not_there_is_named(tmp_path):
    for refuse in (recover, read_episode):
        with pytest.raises(EpisodeError, match=r"gone\.mcap"):
            refuse(tmp_path / "gone.mcap")


def test_every_flipped_byte_is_found(tmp_path, meta, record):
    path = record(tmp_path, steps=1, size=8).end("success", None, "sim")
    whole = path.read_bytes()
    assert check_file(path) == []
    everywhere = {*range(0, len(whole), 13), *range(len(whole) - 120, len(whole)), *range(60)}
    for at in sorted(everywhere):
        data = bytearray(whole)
        data[at] ^= 1 << (at % 8)
        path.write_bytes(data)
        assert check_file(path) != [], f"byte {at} of {len(whole)}"
    path.write_bytes(whole + b"\0")
    assert check_file(path) != []


def test_a_file_with_another_name_is_found(finished):
    other = finished.rename(finished.with_name("other.mcap"))
    assert check_file(other) == [f"the file holds episode {finished.stem}; rename it to {finished.name}"]
