"""The index says what the files say, whoever writes it and however often."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from at_once import run_at_once

from flexor.runtime.episodes import index as index_module
from flexor.runtime.episodes.episode_check import check_root, repair
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import INDEX_VERSION, EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder

CHILD = """
import sys
import numpy as np
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
recorder = EpisodeRecorder(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    recorder.begin(EpisodeMeta("r", sys.argv[2], "p", number, "b", "base", 20.0, ()))
    recorder.step(0, np.zeros(3, np.float32), np.zeros(2, np.float32))
    recorder.end("success", None, "sim")
"""

# Root may write anywhere, so that it has to become somebody else first.
NOBODY = """
import os, sys
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
assert not os.access(sys.argv[1], os.W_OK)
"""
READER = (
    NOBODY
    + """
for row in EpisodeIndex(sys.argv[1]).episodes():
    print(row.id, row.label)
"""
)
WRITER_WITHOUT_RIGHT = (
    NOBODY
    + """
(row,) = EpisodeIndex(sys.argv[1]).episodes()
try:
    EpisodeIndex(sys.argv[1]).mark_used([row.id], "nobody")
except EpisodeError as error:
    print(row.id, error)
"""
)


def test_a_row_tells_what_the_episode_was(tmp_path, record):
    recorder = record(tmp_path)
    path = recorder.end("failure", "reach_miss", "operator")
    row = EpisodeIndex(tmp_path).episodes()[0]
    assert (row.id, row.file) == (path.stem, f"episodes/{path.name}")
    assert (row.outcome, row.label, row.source, row.recovered) == ("failure", "reach_miss", "operator", False)
    assert (row.steps, row.frames, row.chunks, row.events, row.interventions) == (12, 6, 3, 0, 0)
    assert (row.seed, row.task, row.bytes) == (str(2**64 - 1), "lift", path.stat().st_size)
    assert row.accel_mean == pytest.approx(0.5)
    assert row.accel_max == pytest.approx(1.0)
    assert (row.entropy_bits_mean, row.entropy_bits_max) == (9.0, 11.5)


def test_a_score_that_is_not_finite_does_not_count(tmp_path, meta, chunk):
    recorder = EpisodeRecorder(tmp_path)
    recorder.begin(meta)
    for step, accel in enumerate((1.0, float("nan"), 2.0, float("inf"))):
        recorder.chunk(step, replace(chunk(step), scores={"accel": accel}))
    recorder.end("success", None, "sim")
    row = EpisodeIndex(tmp_path).episodes()[0]
    assert (row.accel_mean, row.accel_max, row.entropy_bits_mean) == (1.5, 2.0, None)
    assert check_root(tmp_path).problems == ()


def test_questions_choose_by_outcome_and_task(tmp_path, record, meta):
    index = EpisodeIndex(tmp_path)
    assert index.episodes() == []
    assert not index.path.exists()
    paths = [record(tmp_path, steps=1).end(outcome, None, "sim") for outcome in ("success", "failure", "success")]
    assert [row.id for row in index.episodes(outcome="failure")] == [paths[1].stem]
    assert len(index.episodes(outcome="success", task="lift")) == 2
    assert index.episodes(task="push") == []
    with pytest.raises(EpisodeError, match='outcome is "won"; give one of success'):
        index.episodes(outcome="won")


def test_the_index_made_again_from_the_files_is_the_same(tmp_path, record):
    for steps in (1, 7, 12):
        record(tmp_path, steps=steps).end("success" if steps > 5 else "failure", None, "sim")
    index = EpisodeIndex(tmp_path)
    before = index.episodes()
    assert len(before) == 3
    for file in tmp_path.glob("index.sqlite*"):
        file.unlink()
    for problem in check_root(tmp_path).problems:
        repair(tmp_path, problem)
    assert index.episodes() == before


def test_processes_that_record_into_one_root_at_once_lose_nothing(tmp_path):
    assert run_at_once(CHILD, tmp_path, "task0", "task1", "task2") == [0, 0, 0]
    index = EpisodeIndex(tmp_path)
    assert [len(index.episodes(task=f"task{number}")) for number in range(3)] == [12, 12, 12]
    assert check_root(tmp_path).problems == ()


def test_a_writer_waits_for_another_one(tmp_path, record):
    path = record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    other = sqlite3.connect(index.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    letting_go = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    letting_go.start()
    assert index.add(path) == index.episodes()[0]
    letting_go.join(timeout=10)
    other.close()


def test_a_writer_that_waits_in_vain_says_so(tmp_path, record, monkeypatch):
    path = record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    monkeypatch.setattr(index_module, "BUSY_TIMEOUT_S", 0.1)
    other = sqlite3.connect(index.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EpisodeError, match=r"index\.sqlite: database is locked"):
        index.add(path)
    other.close()


def test_a_reader_does_not_wait_for_a_writer(tmp_path, record, monkeypatch):
    path = record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    monkeypatch.setattr(index_module, "BUSY_TIMEOUT_S", 0.1)
    other = sqlite3.connect(index.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM episodes")
    assert [row.id for row in index.episodes()] == [path.stem]
    other.execute("COMMIT")
    assert index.episodes() == []
    other.close()


def as_nobody(script: str, root: Path, mode: int) -> subprocess.CompletedProcess[str]:
    """Run `script` as a user that may not write to `root`."""
    root.chmod(mode)
    child = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, timeout=60)
    root.chmod(0o755)
    return child


def test_a_writer_without_the_right_to_write_is_told_so_and_not_to_delete_the_index(record):
    with tempfile.TemporaryDirectory() as folder:  # another user may not enter tmp_path
        path = record(Path(folder), steps=1).end("success", None, "sim")
        child = as_nobody(WRITER_WITHOUT_RIGHT, Path(folder), 0o555)
        assert EpisodeIndex(folder).episodes()[0].used_by == ()
    assert (child.returncode, path.stem in child.stdout) == (0, True)
    assert "index.sqlite: " in child.stdout
    assert "mend the permissions of the folder" in child.stdout
    assert "delete" not in child.stdout


@pytest.mark.parametrize("writer_is_there", [False, True])
def test_the_index_of_a_folder_that_cannot_be_written_to_is_read(record, writer_is_there):
    with tempfile.TemporaryDirectory() as folder:  # another user may not enter tmp_path
        root = Path(folder)
        path = record(root, steps=1).end("success", None, "sim")
        writer = sqlite3.connect(root / "index.sqlite", isolation_level=None)
        if writer_is_there:
            writer.execute("UPDATE episodes SET label = 'still in the log'")
        before = sorted(file.name for file in root.iterdir())
        child = as_nobody(READER, root, 0o555)
        after = sorted(file.name for file in root.iterdir())
        writer.close()
    label = "still in the log" if writer_is_there else None
    assert (child.stdout, child.stderr) == (f"{path.stem} {label}\n", "")
    assert after == before


def test_an_index_that_is_no_index_is_named_with_the_way_out(tmp_path, record):
    record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    for file in tmp_path.glob("index.sqlite*"):
        file.unlink()
    index.path.write_bytes(b"not a database" * 100)
    with pytest.raises(EpisodeError, match=r"file is not a database; .*delete the index\.sqlite\* files"):
        index.episodes()
    index.path.unlink()
    connection = sqlite3.connect(index.path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(EpisodeError, match=f"its version is 99, this flexor reads up to {INDEX_VERSION}"):
        index.episodes()


def test_verify_finds_and_mends_every_disagreement(tmp_path, record):
    paths = [record(tmp_path, steps=steps).end("success", None, "sim") for steps in (1, 2, 3, 4, 5)]
    gone, unlisted, damaged, stale, whole = paths
    gone.unlink()
    EpisodeIndex(tmp_path).remove(unlisted.stem)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("UPDATE episodes SET outcome = 'failure' WHERE id = ?", (stale.stem,))
    connection.close()

    found = check_root(tmp_path)
    kinds = {problem.file: problem.kind for problem in found.problems}
    assert kinds == {
        f"episodes/{gone.name}": "missing",
        f"episodes/{unlisted.name}": "unlisted",
        f"episodes/{damaged.name}": "damaged",
        f"episodes/{stale.name}": "stale",
    }
    for problem in found.problems:
        repair(tmp_path, problem)
    assert check_root(tmp_path).problems == ()
    assert {row.id for row in EpisodeIndex(tmp_path).episodes()} == {path.stem for path in paths} - {gone.stem}
    assert whole.exists()


def test_a_file_set_aside_never_replaces_an_earlier_one(tmp_path, record):
    path = record(tmp_path, steps=3).end("success", None, "sim")
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    for problem in check_root(tmp_path).problems:
        repair(tmp_path, problem)
    (first,) = (tmp_path / "episodes").glob("*.damaged")
    path.write_bytes(b"not even a beginning")
    for problem in check_root(tmp_path).problems:
        repair(tmp_path, problem)
    aside = {file.read_bytes() for file in (tmp_path / "episodes").glob("*.mcap.damaged")}
    assert aside == {whole[:-50], b"not even a beginning"}
    assert first.read_bytes() == whole[:-50]
    assert check_root(tmp_path).problems == ()


def test_removing_a_row_that_is_not_there_is_an_error(tmp_path, record):
    record(tmp_path, steps=1).end("success", None, "sim")
    with pytest.raises(EpisodeError, match="has no episode nobody"):
        EpisodeIndex(tmp_path).remove("nobody")
