"""The curves of a run that was killed read as those of one that was not."""

from __future__ import annotations

from pathlib import Path

from flexor.learner.curves import Curves, read_curves


def test_rows_after_the_checkpoint_are_dropped_when_the_run_goes_on(tmp_path: Path):
    with Curves(tmp_path, 0) as curves:
        for step in (1, 2, 3):
            curves.write(step, {"train/loss": float(step)})
    with Curves(tmp_path, 2) as curves:
        curves.write(3, {"train/loss": 30.0})
    rows = read_curves(tmp_path / "curves.jsonl")
    assert [(row["step"], row["train/loss"]) for row in rows] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_line_cut_short_by_a_kill_is_not_read(tmp_path: Path):
    with Curves(tmp_path, 0) as curves:
        curves.write(1, {"train/loss": 1.0})
    with (tmp_path / "curves.jsonl").open("a") as file:
        file.write('{"step": 2, "train/lo')
    assert len(read_curves(tmp_path / "curves.jsonl")) == 1
    with Curves(tmp_path, 2) as curves:
        curves.write(2, {"train/loss": 2.0})
    assert [row["step"] for row in read_curves(tmp_path / "curves.jsonl")] == [1, 2]
