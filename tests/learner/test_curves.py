"""The curves of a run that was killed read as those of one that was not."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flexor.learner.curves import Curves, read_curves
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.settings import PretrainSettings
from flexor.settings import SettingsError, load_settings


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


class _Library(ModuleType):
    """wandb or trackio as far as a run needs them: `init`, and a run with `log` and `finish`."""

    def __init__(self) -> None:
        super().__init__("library")
        self.__spec__ = ModuleSpec("library", None)
        self.told: list[tuple[Any, ...]] = []

    def init(self, **how: Any) -> _Library:
        self.told.append(("init", how["project"], how["name"], how["resume"]))
        return self

    def log(self, row: dict[str, float], step: int) -> None:
        self.told.append(("log", step, row))

    def finish(self) -> None:
        self.told.append(("finish",))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_was_asked_for_gets_every_row_and_a_resumed_run_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    library = _Library()
    monkeypatch.setitem(sys.modules, name, library)
    trackers = load_settings(LoraSettings, None, ["minutes=1", f"trackers=[{name}]"]).trackers
    for step in (1, 2):
        with Curves(tmp_path, step - 1, trackers) as curves:
            curves.write(step, {"train/loss": 1.0 / step})
    first, second = library.told[0], library.told[3]
    assert first == second == ("init", "flexor", first[2], "allow")
    assert first[2].startswith(f"{tmp_path.name}-")
    assert [entry for entry in library.told if entry[0] == "log"] == [
        ("log", 1, {"train/loss": 1.0}), ("log", 2, {"train/loss": 0.5})]  # fmt: skip
    assert library.told[-1] == ("finish",)
    assert [row["step"] for row in read_curves(tmp_path / "curves.jsonl")] == [1, 2]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"wandb is not installed; `pip install wandb`"):
        load_settings(LoraSettings, None, ["minutes=1", "trackers=[wandb]"])


def test_who_gets_the_curves_does_not_keep_a_checkpoint_from_being_resumed():
    for settings in (LoraSettings(minutes=1.0), PretrainSettings(minutes=1.0)):
        assert "trackers" not in settings.identity()
