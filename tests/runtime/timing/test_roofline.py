"""The roofline: floors follow from the machine's rates by hand, and the command tells what it timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.pi05.cost import call_cost
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.timing import torch_roofline as roofline
from flexor.runtime.timing.torch_machine import MachineSpeed, measure_machine
from flexor.runtime.timing.torch_roofline import measure_roofline
from flexor.runtime.timing.torch_runner import Question

QUESTION = Question("pi05-micro", "int8", "fp32", views=2, tokens=12, horizon=10, steps=3, samples=2)


def test_each_phase_takes_the_longer_of_computing_and_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MachineSpeed(bytes_per_s=1e6, flops_per_s={"int8": 1e6, "fp32": 1e18})
    monkeypatch.setattr(roofline, "measure_machine", lambda precisions, device: machine)
    told: list[str] = []
    result = measure_roofline(QUESTION, 2, lambda what, done, of: told.append(what))
    cost = call_cost(QUESTION.config, 2, 12, 3, 2, prefix_bytes=1, expert_bytes=4)
    by_hand = {
        "vision": cost["vision"].flops / 1e6,  # each byte meets many tokens: computing takes longer
        "prefix": cost["prefix"].flops / 1e6,
        "expert": cost["expert"].bytes / 1e6,
    }
    for name, seconds in by_hand.items():
        assert result["phases"][name]["floor_ms"] == pytest.approx(1000 * seconds)
    assert result["floor_ms"] == pytest.approx(1000 * sum(by_hand.values()))
    assert result["ratio"] == pytest.approx(result["p50_ms"] / result["floor_ms"])
    assert result["n"] == 2 and told[-1] == "timing calls"


def test_every_precision_has_a_rate() -> None:
    machine = measure_machine({"fp32", "bf16", "int8"}, torch.device("cpu"))
    assert machine.bytes_per_s > 0 and set(machine.flops_per_s) == {"fp32", "bf16", "int8"}
    assert all(rate > 0 for rate in machine.flops_per_s.values())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"preset": "pi06"}, "preset 'pi06' is unknown; there are pi05"),
        ({"tokens": 99}, "tokens is 99; .* takes 1 to 40"),
        ({"mode": "fast"}, "mode is 'fast'; expected one of eager, graph, compiled"),
    ],
)
def test_a_question_that_no_model_answers_is_refused(changed: dict[str, object], said: str) -> None:
    fields = {name: getattr(QUESTION, name) for name in Question.__dataclass_fields__}
    with pytest.raises(EngineError, match=said):
        measure_roofline(Question(**{**fields, **changed}), 1, lambda what, done, of: None)


def test_the_command_writes_what_it_timed(tmp_path: Path) -> None:
    file = tmp_path / "roofline.json"
    arguments = ["bench", "roofline", "pi05-micro", "--precision", "int8", "--adapter", "--n", "3", "--json", str(file)]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output
    found = json.loads(file.read_text())
    assert {"floor_ms", "p50_ms", "ratio", "env", "gflops", "copy_gb_s"} <= set(found)
    assert (found["precision"], found["n"], found["flow_steps"], found["adapter"]) == ("int8", 3, 10, True)
    assert set(found["gflops"]) == {"int8", "bf16"}
