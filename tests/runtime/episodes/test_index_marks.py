"""Who learned from an episode: remembered, whoever marks it and however old the index is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from at_once import run_at_once

from flexor.runtime.episodes.episode_check import check_root
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import LATER_COLUMNS

LEARNER = """
import sys
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import LATER_COLUMNS
index = EpisodeIndex(sys.argv[1])
ids = [row.id for row in index.episodes()]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(8):
    index.mark_used(ids, f"learner {sys.argv[2]}, round {turn}")
"""


def test_who_learned_from_an_episode_is_remembered_once_and_in_order(tmp_path, record):
    first, second = (record(tmp_path, steps=steps).end("success", None, "sim") for steps in (1, 2))
    index = EpisodeIndex(tmp_path)
    assert [row.used_by for row in index.episodes()] == [(), ()]
    index.mark_used([first.stem], "nano@0123456789ab")
    index.mark_used([first.stem, second.stem], 'adapter "7"')
    index.mark_used([first.stem], "nano@0123456789ab")
    index.mark_used([], "nobody's")
    assert {row.id: row.used_by for row in index.episodes()} == {
        first.stem: ("nano@0123456789ab", 'adapter "7"'),
        second.stem: ('adapter "7"',),
    }
    # No file says who used it, so that a check finds nothing wrong, and a row written again keeps it.
    assert check_root(tmp_path).problems == ()
    index.add(first)
    assert index.episodes()[0].used_by == ("nano@0123456789ab", 'adapter "7"')


def test_marking_an_episode_that_has_no_row_marks_none(tmp_path, record):
    path = record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    with pytest.raises(EpisodeError, match=r"index\.sqlite has no episode a, b, c and 1 more; `flexor episodes list`"):
        index.mark_used([path.stem, "d", "c", "b", "a"], "nano")
    with pytest.raises(EpisodeError, match="marked as used by nobody; give the bundle or adapter"):
        index.mark_used([path.stem], "")
    assert index.episodes()[0].used_by == ()


def test_learners_that_mark_at_once_lose_no_mark(tmp_path, record):
    paths = [record(tmp_path, steps=1).end("success", None, "sim") for _ in range(3)]
    assert run_at_once(LEARNER, tmp_path, "0", "1", "2") == [0, 0, 0]
    expected = {f"learner {number}, round {turn}" for number in range(3) for turn in range(8)}
    rows = EpisodeIndex(tmp_path).episodes()
    assert [len(row.used_by) for row in rows] == [24] * len(paths)
    assert {user for row in rows for user in row.used_by} == expected


def make_old(root: Path, version: int = 1) -> None:
    """The index as it was before episodes were marked (1), before they had alarms (2), before there was advice (3)."""
    with sqlite3.connect(root / "index.sqlite") as connection:
        later = {1: tuple(LATER_COLUMNS), 2: ("calibrated_max", "alarm_step", "advised"), 3: ("advised",)}
        for column in later[version]:
            connection.execute(f"ALTER TABLE episodes DROP COLUMN {column}")
        connection.execute(f"PRAGMA user_version={version}")
    connection.close()


def columns(root: Path) -> list[str]:
    connection = sqlite3.connect(root / "index.sqlite")
    names = [row[1] for row in connection.execute("PRAGMA table_info(episodes)")]
    connection.close()
    return names


def test_an_index_from_before_the_marks_is_read_as_it_is_and_changed_by_the_first_writer(tmp_path, record):
    first = record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    before = index.episodes()
    make_old(tmp_path)
    assert index.episodes() == before
    assert check_root(tmp_path).problems == ()
    assert "used_by" not in columns(tmp_path)
    second = record(tmp_path, steps=2).end("failure", None, "sim")
    index.mark_used([first.stem], "nano")
    assert {row.id: row.used_by for row in index.episodes()} == {first.stem: ("nano",), second.stem: ()}
    assert {"used_by", "advised"} <= set(columns(tmp_path))
    assert check_root(tmp_path).problems == ()


def test_an_index_with_marks_and_without_alarms_keeps_its_marks(tmp_path, record):
    path = record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    index.mark_used([path.stem], "nano")
    make_old(tmp_path, version=2)
    assert (index.episodes()[0].used_by, index.episodes()[0].alarm_step) == (("nano",), None)
    index.mark_used([path.stem], "another")
    assert index.episodes()[0].used_by == ("nano", "another")
    assert {"calibrated_max", "alarm_step"} <= set(columns(tmp_path))
    assert check_root(tmp_path).problems == ()


def test_an_index_from_before_there_was_advice_says_that_there_was_none(tmp_path, record):
    path = record(tmp_path, steps=1).end("success", None, "sim")
    index = EpisodeIndex(tmp_path)
    index.mark_used([path.stem], "nano")
    make_old(tmp_path, version=3)
    assert (index.episodes()[0].used_by, index.episodes()[0].advised) == (("nano",), 0)
    record(tmp_path, steps=2).end("success", None, "sim")
    assert [row.advised for row in index.episodes()] == [0, 0]
    assert "advised" in columns(tmp_path)
    assert check_root(tmp_path).problems == ()


def test_processes_that_change_an_old_index_at_once_all_succeed(tmp_path, record):
    for _ in range(2):
        record(tmp_path, steps=1).end("success", None, "sim")
    make_old(tmp_path)
    assert run_at_once(LEARNER, tmp_path, "a", "b", "c") == [0, 0, 0]
    assert [len(row.used_by) for row in EpisodeIndex(tmp_path).episodes()] == [24, 24]
