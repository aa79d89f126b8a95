"""The sweep leaves a line for each question, also for one that fails, and for the swap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.pi05.config import PRESETS
from flexor.runtime.timing.torch_runner import Question
from flexor.runtime.timing.torch_sweep import gpu_questions, measure_sweep


def test_every_question_leaves_a_line(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    file = tmp_path / "sweep.jsonl"
    eager = Question("pi05-micro", "bf16", "bf16", views=2, tokens=12, horizon=10, steps=2, samples=1)
    fp8 = Question("pi05-micro", "fp8", "bf16", views=1, tokens=12, horizon=5, steps=2, samples=2, adapter=True)
    broken = Question("pi05-micro", "bf16", "bf16", 2, 12, 10, 2, 1, mode="fast")
    measure_sweep([eager, fp8, broken], file, 1, lambda what, done, of: None)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 4 and all("env" in line for line in lines)
    assert all(line["cosine"] > 0.9999 and line["n"] == 1 for line in lines[:2])
    assert lines[2]["error"].startswith("EngineError: mode is 'fast'")
    assert (lines[3]["swap"]["lost"], lines[3]["swap"]["max_diff_cold"]) == (0, 0.0)


def test_the_table_holds_modes_precisions_and_adapters_of_one_model() -> None:
    questions = gpu_questions("pi05")
    assert {question.mode for question in questions} == {"eager", "graph", "compiled"}
    assert {question.samples for question in questions} == {1, 8} and any(question.adapter for question in questions)
    assert all(question.narrow and question.tokens <= PRESETS["pi05"].max_prompt_tokens for question in questions)
    assert len(set(questions)) == len(questions)


def test_the_command_says_that_it_needs_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = CliRunner().invoke(app, ["bench", "gpu", str(tmp_path / "x.jsonl")])
    assert run.exit_code != 0 and "sees no GPU here" in str(run.exception or run.output)
