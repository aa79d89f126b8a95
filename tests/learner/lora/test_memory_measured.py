"""`flexor bench memory`: every knob, in its order, each in a process that learns for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_learners import settings
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.flywheel.timing.learner_memory import measure_learner_memory, turned_knobs
from flexor.runtime.inference.bundle import Bundle


def test_knobs_are_turned_one_after_the_other_until_none_is_left():
    knobs = [str(knob).partition(",")[0] for knob in turned_knobs(settings(r=16, precision="fp32", batch=8))]
    assert knobs == [
        "r=8",
        "precision=bf16",
        "gradient_checkpointing=true",
        f"batch=1 accumulation={8 * settings().accumulation}",
        "load_in_8bit=true",
        "draws=1",
        "profile=expert",
    ]


def test_a_learner_that_fails_is_told_with_its_settings(base: Bundle, tmp_path: Path):
    with pytest.raises(FlexorError, match=r"(?s)a learner with \{.*\} ended with 1: .*nowhere"):
        measure_learner_memory(
            base.path, tmp_path / "nowhere", settings(), tmp_path / "work", lambda what, done, total: None
        )


@pytest.mark.nightly
def test_the_command_measures_each(base: Bundle, changed: Path, tmp_path: Path):
    given = ["bench", "memory", str(base.path), "--episodes", str(changed), "--steps", "1"]
    done = CliRunner().invoke(app, [*given, "--json", str(tmp_path / "told.json")])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "told.json").read_text())["rows"]
    assert [row["knob"] for row in rows][:3] == ["as given", "r=8", "precision=bf16"]
    for row, before in zip(rows[1:], rows, strict=False):
        assert row["saved"] == pytest.approx(1 - row["peak_mb"] / before["peak_mb"])
        assert row["samples_per_s"] > 0
