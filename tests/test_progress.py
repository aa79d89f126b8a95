"""Progress: a bar with its note on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flexor.cli import progress


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> list[str]:
    """The lines that a job at 10 % and then at its end leaves behind."""
    seen = io.StringIO()
    monkeypatch.setattr(progress, "progress_console", Console(file=seen, force_terminal=terminal, width=160))
    with progress.Progress() as bar:
        bar.update("training", 1, 10, "loss 0.9")
        bar.update("training", 10, 10, "loss 0.1")
    return [line for line in seen.getvalue().splitlines() if "training" in line]


def test_a_bar_says_its_note_once(monkeypatch: pytest.MonkeyPatch):
    last = shown(monkeypatch, terminal=True)[-1]
    assert last.count("loss 0.1") == 1
    assert "100%" in last


def test_without_a_terminal_the_first_and_the_last_standing_are_lines(monkeypatch: pytest.MonkeyPatch):
    assert shown(monkeypatch, terminal=False) == ["training: 10 %  loss 0.9", "training: 100 %  loss 0.1"]
