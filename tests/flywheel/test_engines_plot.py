"""Benchmarks and evaluations of the same bundles belong together; others do not, and are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.flywheel.engines_plot import arms, join_success


def timed(engine: str, hash_: str, precision: str = "fp32", steps: int = 10) -> dict[str, Any]:
    facts = {"engine": engine, "precision": precision, "flow_steps": steps, "bundle_flow_steps": 10, "hash": hash_}
    return {**facts, "p50_ms": 4.0, "p95_ms": 6.0}


def evaluated(hash_: str, precision: str = "fp32", sim: str = "sim:tabletop") -> dict[str, Any]:
    counted = {"success_rate": 0.9, "ci95": [0.8, 0.95], "episodes": 50}
    return {"bundle_hash": hash_, "precision": precision, "sim": sim, **counted}


def test_an_engine_has_the_success_of_its_own_bundle_and_precision() -> None:
    engines = [timed("torch", "a"), timed("compiled", "a"), timed("onnx", "b", "int8"), timed("pt2", "c")]
    rows, left = join_success(engines, [evaluated("a"), evaluated("b", "int8"), evaluated("c", "int8")])
    assert [row["name"] for row in rows] == [
        "torch fp32, 10 steps",
        "compiled fp32, 10 steps",
        "onnx int8, 10 steps",
    ]
    assert rows[0] == {"name": "torch fp32, 10 steps", "engine": "torch fp32", "flow_steps": 10, "p50_ms": 4.0,
                       "p95_ms": 6.0, "success_rate": 0.9, "ci95": [0.8, 0.95], "episodes": 50}  # fmt: skip
    assert left == ["pt2 fp32, 10 steps"]


def test_weights_timed_with_other_flow_steps_were_not_evaluated_so() -> None:
    rows, left = join_success([timed("torch", "a"), timed("torch", "a", steps=5)], [evaluated("a")])
    assert (len(rows), left) == (1, ["torch fp32, 5 steps"])


def test_a_gate_is_two_evaluations_each_with_the_interval_of_its_own_rate() -> None:
    gate = {**evaluated("b", "int8"), "successes": 45, "ci95": [-0.02, 0.03], "reference": evaluated("a")}
    reference, other = arms(gate)
    assert reference == evaluated("a") and arms(reference) == [reference]
    assert other["bundle_hash"] == "b"
    assert other["ci95"] == pytest.approx([0.7864, 0.9565], abs=1e-4)  # Wilson, 45 of 50


def test_several_simulations_and_nothing_in_common_are_refused() -> None:
    with pytest.raises(FlexorError, match="of sim:libero_spatial, sim:tabletop; a picture has one simulation"):
        join_success([timed("torch", "a")], [evaluated("a"), evaluated("b", sim="sim:libero_spatial")])
    with pytest.raises(FlexorError, match="no engine was both timed and evaluated"):
        join_success([timed("torch", "a")], [evaluated("b")])
    with pytest.raises(FlexorError, match=r"not as expected \('sim'\)"):
        join_success([timed("torch", "a")], [{"success_rate": 1.0}])


def test_the_command_draws_what_two_others_wrote(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    bench, success, told, picture = (tmp_path / name for name in ("b.json", "e.json", "told.json", "p.png"))
    bench.write_text(json.dumps({"threads": 1, "engines": [timed("torch", "a"), timed("pt2", "c")]}))
    success.write_text(json.dumps(evaluated("a")))
    line = ["plot", "engines", str(bench), "--eval", str(success), "--out", str(picture), "--json", str(told)]
    run = CliRunner().invoke(app, line)
    assert run.exit_code == 0, run.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(told.read_text())["not_evaluated"] == ["pt2 fp32, 10 steps"]
    success.write_text(
        json.dumps({**evaluated("c"), "successes": 45, "reference": evaluated("a")})
    )  # of a gate, both arms
    assert CliRunner().invoke(app, line).exit_code == 0
    assert len(json.loads(told.read_text())["engines"]) == 2
    success.write_text("[")
    assert "is not JSON" in str(CliRunner().invoke(app, line).exception)
