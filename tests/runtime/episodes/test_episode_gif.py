"""A GIF shows every recorded frame in the robot's own time, large enough to see."""

from __future__ import annotations

import pytest
from PIL import Image

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.gif import write_gif
from flexor.runtime.episodes.recorder import EpisodeRecorder


def test_small_frames_are_enlarged_side_by_side_over_a_caption(tmp_path, record):
    episode = read_episode(record(tmp_path, steps=16, size=64).end("success", None, "sim"))
    write_gif(episode, tmp_path / "pictures" / "episode.gif")
    with Image.open(tmp_path / "pictures" / "episode.gif") as gif:
        waits = []
        for number in range(getattr(gif, "n_frames", 1)):
            gif.seek(number)
            waits.append(gif.info["duration"])
        assert gif.size == (512, 300)
        assert gif.info["loop"] == 0
    assert waits == [250, 250, 250, 1500]


def test_an_episode_without_frames_says_so(tmp_path, meta):
    recorder = EpisodeRecorder(tmp_path)
    recorder.begin(meta)
    episode = read_episode(recorder.end("abort", None, "sim"))
    with pytest.raises(EpisodeError, match="has no frames"):
        write_gif(episode, tmp_path / "episode.gif")


def test_a_picture_that_cannot_be_written_is_named(tmp_path, record):
    episode = read_episode(record(tmp_path, steps=1).end("success", None, "sim"))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(EpisodeError, match=r"cannot write the picture .*taken"):
        write_gif(episode, tmp_path / "taken" / "episode.gif")


def test_a_folder_is_no_name_for_a_picture(tmp_path, record, monkeypatch):
    episode = read_episode(record(tmp_path, steps=1).end("success", None, "sim"))
    monkeypatch.chdir(tmp_path)
    for name in (".", tmp_path):
        with pytest.raises(EpisodeError, match="it is a folder"):
            write_gif(episode, name)
    assert not list(tmp_path.glob("*.part"))
