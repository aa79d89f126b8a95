"""kill -9 at any moment loses no finished episode, and nothing of the open one that a call had returned for."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_check import check_root, repair
from flexor.runtime.episodes.index import EpisodeIndex

CHILD = """
import itertools, sys, time
import numpy as np
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
recorder = EpisodeRecorder(sys.argv[1])
def say(*words):
    print(*words, time.monotonic(), flush=True)
for number in itertools.count():
    recorder.begin(EpisodeMeta("r", "t", "p", number, "b", "base", 20.0, ("eye",)))
    say("begin", number)
    for step in range(15):
        if step % 5 == 0:
            recorder.frames(step, {"eye": np.full((32, 32, 3), step, np.uint8)})
            say("frames", number, step)
        recorder.step(step, np.full(3, number, np.float32), np.full(2, step, np.float32))
        say("step", number, step)
        time.sleep(0.001)
    recorder.end("success", None, "sim")
    say("end", number)
"""


def record_until_killed(root: Path, seconds: float) -> list[list[str]]:
    """What a recording process said before it was killed, `seconds` after its first word."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    rest = child.stdout.read()
    child.wait(timeout=20)
    return [line.split() for line in (first + rest).splitlines()]


@pytest.mark.parametrize("attempt", range(8))
def test_a_killed_recorder_loses_nothing_it_had_recorded(tmp_path, attempt):
    said = record_until_killed(tmp_path, random.uniform(0, 0.4))

    found = check_root(tmp_path)
    assert {problem.kind for problem in found.problems} <= {"unfinished", "unlisted"}
    assert found.recording == ()
    finished = {words[1] for words in said if words[0] == "end"}
    before = {str(read_episode(path).meta.seed): path for path in (tmp_path / "episodes").glob("*.mcap")}
    assert finished <= set(before)

    for problem in found.problems:
        repair(tmp_path, problem)
    assert check_root(tmp_path).problems == ()
    rows = {row.seed: row for row in EpisodeIndex(tmp_path).episodes()}
    assert finished <= {seed for seed, row in rows.items() if row.outcome == "success" and not row.recovered}
    # An episode whose begin() never returned may be set aside; every other one is there.
    for number in {words[1] for words in said}:
        episode = read_episode(tmp_path / rows[number].file)
        steps = [int(words[2]) for words in said if words[:2] == ["step", number]]
        frames = [int(words[2]) for words in said if words[:2] == ["frames", number]]
        # The child may have got one call further than its last word.
        assert episode.steps.tolist()[: len(steps)] == steps
        assert len(episode.steps) <= len(steps) + 1
        assert list(episode.frames["eye"])[: len(frames)] == frames
        assert np.all(episode.states == int(number))
        assert all(action == [step, step] for step, action in zip(episode.steps, episode.actions.tolist(), strict=True))


def test_an_episode_that_is_being_recorded_is_left_alone(tmp_path, record):
    recorder = record(tmp_path, steps=3)
    found = check_root(tmp_path)
    assert (len(found.recording), found.problems) == (1, ())
    recorder.end("success", None, "sim")
    assert check_root(tmp_path).recording == ()
