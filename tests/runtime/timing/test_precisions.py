"""`flexor bench precisions`: every precision that this machine computes is timed, in turns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.timing.torch_precisions import _in_turns, kinds, parse_shape

CPU = torch.device("cpu")


def test_the_command_times_products_and_calls(tmp_path: Path) -> None:
    file = tmp_path / "precisions.json"
    arguments = ["bench", "precisions", "pi05-nano", "--calls", "fp32,int8", "--shape", "32x64", "--rows", "3"]
    run = CliRunner().invoke(app, [*arguments, "--n", "2", "--json", str(file)])
    assert run.exit_code == 0, run.output
    found = json.loads(file.read_text())
    (product,) = found["products"]
    assert (product["in"], product["out"], product["rows"]) == (32, 64, 3)
    assert set(product["ms"]) == {"fp32", "bf16", "int8", "int8w", "bnb8"}  # no fp8 on a CPU
    assert set(found["calls"]) == {"fp32", "int8+bf16"}
    for times in (*product["ms"].values(), *found["calls"].values()):
        assert 0 < times["best"] <= times["p50"] and times["processor"] > 0


def test_fp8_is_not_timed_where_it_would_be_emulated() -> None:
    assert "fp8" not in kinds(CPU)


def test_what_is_compared_takes_turns() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    times = dict(_in_turns(calls, 3, CPU))
    assert order == ["a", "b"] * 5 and [len(ms) for ms in times.values()] == [3, 3]  # two turns warm up


@pytest.mark.parametrize("text", ["2048", "2048x", "axb", "0x16", "1x2x3"])
def test_a_shape_is_two_numbers(text: str) -> None:
    with pytest.raises(EngineError, match="is not INxOUT"):
        parse_shape(text)
