"""docs/reliability.md: its table is what the tries lost, and the counts count."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_tally import Tally, read_tries, table, with_table

ROOT = Path(__file__).parents[1]


def tally(attempt: int = 0) -> Tally:
    return Tally("fire", "nothing burns", "test_fire.py::test_fire", attempt)


def test_the_table_on_the_page_is_made_from_the_tries():
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert with_table(page, read_tries(ROOT / "docs" / "results" / "faults.jsonl")) == page


def test_every_fault_that_is_tested_is_on_the_page():
    tried = {entry["fault"] for entry in read_tries(ROOT / "docs" / "results" / "faults.jsonl")}
    for name in ("driving/test_daemon_faults.py", "serving/test_server_faults.py"):
        source = (ROOT / "tests" / "runtime" / name).read_text()
        marked = source.split("@pytest.mark.fault(\n")[1:]
        assert marked
        for text in marked:
            assert text.split('"')[1] in tried


def test_a_reply_that_never_came_or_came_twice_fails_the_try():
    made = tally()
    made.count_replies([1, 2, 3], [1, 3, 3])
    assert (made.requests, made.unanswered, made.twice) == (3, 1, 1)
    with pytest.raises(AssertionError, match="unanswered"):
        made.check()


def test_an_episode_that_is_not_whole_and_an_unsafe_command_fail_the_try():
    made = tally()
    made.count_episodes(["a", "b"], ["b", "c"])
    assert (made.episodes, made.episodes_lost) == (2, 1)
    with pytest.raises(AssertionError, match="'episodes_lost': 1"):
        made.check()
    other = tally()
    other.count_commands(40, 1)
    with pytest.raises(AssertionError, match="'unsafe': 1"):
        other.check()


def test_a_try_has_its_own_moments_and_the_same_ones_again():
    assert tally(1).chance.random() == tally(1).chance.random() != tally(2).chance.random()


def test_tries_of_a_fault_add_up_in_its_row(tmp_path: Path):
    lines = tmp_path / "tries.jsonl"
    for attempt, asked in enumerate((1000, 500)):
        made = tally(attempt)
        made.count_replies(range(asked), range(asked - attempt))
        with lines.open("a") as stream:
            stream.write(made.line())
    row = table(read_tries(lines)).splitlines()[2]
    assert row == "| fire | nothing burns | 2 | 1 / 0 of 1,500 | - | - | `test_fire.py::test_fire` |"
