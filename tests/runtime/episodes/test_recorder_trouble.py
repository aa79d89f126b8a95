"""The recorder on a machine with trouble: a disk that fills up, and a wall clock that is set back."""

from __future__ import annotations

import fcntl
import itertools
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from mcap.reader import make_reader

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_check import check_root, repair
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recovery import recover

FILE_LIMIT = 120_000
CHILD_OF_ONE_STEP = """
import sys
import numpy as np
from flexor.runtime.episodes.episode_schema import EpisodeError, EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
recorder = EpisodeRecorder(sys.argv[1])
recorder.begin(EpisodeMeta("r", "t", "p", 0, "b", "base", 20.0, ()))
recorder.step(0, np.zeros(8, np.float32), np.zeros(7, np.float32))
try:
    recorder.end("success", None, "sim")
except EpisodeError as error:
    print(error)
"""
CHILD = """
import sys
import numpy as np
from flexor.runtime.episodes.episode_schema import EpisodeError, EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
recorder = EpisodeRecorder(sys.argv[1], images="png")
meta = EpisodeMeta("r", "t", "p", 0, "b", "base", 20.0, ("eye",))
def record(steps):
    recorder.begin(meta)
    for step in range(steps):
        recorder.frames(step, {"eye": np.random.default_rng(step).integers(0, 255, (48, 48, 3), np.uint8)})
        recorder.step(step, np.zeros(8, np.float32), np.zeros(7, np.float32))
        played.append(step)
for steps in (5, 5, 10_000):
    played = []
    try:
        record(steps)
        print("finished", recorder.end("success", None, "sim"))
    except EpisodeError as error:
        print("refused", len(played), error)
recorder.close()
"""


def test_a_disk_that_fills_up_costs_no_finished_episode_and_the_error_names_the_file(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT)),
    )
    first, second, refused = (line.split(maxsplit=1) for line in child.stdout.splitlines())
    assert (first[0], second[0], refused[0]) == ("finished", "finished", "refused")
    (part,) = (tmp_path / "episodes").glob("*.mcap.part")
    played, words = refused[1].split(maxsplit=1)
    assert words.startswith(f"cannot write episode {part}: ")
    assert int(played) > 5

    for path in (Path(first[1]), Path(second[1])):
        episode = read_episode(path)
        assert (episode.outcome, len(episode.steps)) == ("success", 5)
        drawn = np.random.default_rng(4).integers(0, 255, (48, 48, 3), np.uint8)
        np.testing.assert_array_equal(episode.frames["eye"][4], drawn)
    found = check_root(tmp_path)
    assert [problem.kind for problem in found.problems] == ["unfinished"]
    assert len(EpisodeIndex(tmp_path).episodes(outcome="success")) == 2
    kept = read_episode(recover(part))
    assert len(kept.steps) == int(played)


def test_an_episode_is_whole_when_there_is_no_room_for_its_row_and_a_repair_lists_it(tmp_path: Path) -> None:
    # 20,000 bytes are enough for a short episode, and less than the table of locks beside the index takes.
    child = subprocess.run(
        [sys.executable, "-c", CHILD_OF_ONE_STEP, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert (child.returncode, child.stderr) == (0, "")
    (path,) = (tmp_path / "episodes").iterdir()
    assert child.stdout.startswith(f"episode {path} is finished and whole, but could not be listed: ")
    assert "free the disk" in child.stdout
    assert read_episode(path).outcome == "success"
    (problem,) = check_root(tmp_path).problems
    assert (problem.kind, problem.file) == ("unlisted", f"episodes/{path.name}")
    repair(tmp_path, problem)
    assert check_root(tmp_path).problems == ()
    assert [row.id for row in EpisodeIndex(tmp_path).episodes()] == [path.stem]


def test_a_check_at_the_moment_an_episode_begins_takes_it_for_no_killed_one(tmp_path, record, monkeypatch):
    locked = fcntl.flock
    checks = []

    def lock_while_somebody_checks(*arguments: Any) -> None:
        if (tmp_path / "episodes").exists() and not checks:
            checks.append(None)  # the check takes locks itself
            checks.append(check_root(tmp_path))
        locked(*arguments)

    monkeypatch.setattr(fcntl, "flock", lock_while_somebody_checks)
    recorder = record(tmp_path, steps=2)
    assert (checks[1].problems, checks[1].recording) == ((), ())
    assert len(check_root(tmp_path).recording) == 1
    path = recorder.end("success", None, "sim")
    assert list((tmp_path / "episodes").iterdir()) == [path]


def test_a_wall_clock_set_back_reorders_nothing_and_stretches_nothing(tmp_path, record, monkeypatch):
    wall, monotonic, period = time.time_ns(), 7 * 10**9, 50_000_000

    def tick() -> int:
        nonlocal monotonic
        monotonic += period
        return monotonic

    def set_back() -> int:
        """Somebody sets the clock back ten minutes, again and again."""
        nonlocal wall
        wall -= 600 * 10**9
        return wall

    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic_ns", tick)
        patched.setattr(time, "time_ns", set_back)
        patched.setattr(time, "time", lambda: set_back() / 1e9)
        paths = [record(tmp_path, steps=12).end("success", None, "sim") for _ in range(2)]

    for path in paths:
        with path.open("rb") as stream:
            times = [message.log_time for _, _, message in make_reader(stream).iter_messages(log_time_order=False)]
        assert times == sorted(times)
        gaps = {later - earlier for earlier, later in itertools.pairwise(times)}
        assert gaps <= {0, period}
        assert len(read_episode(path).steps) == 12
    assert paths[1].name < paths[0].name  # the later one has the earlier name
    assert check_root(tmp_path).problems == ()
    assert [row.steps for row in EpisodeIndex(tmp_path).episodes()] == [12, 12]
