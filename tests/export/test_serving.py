"""A bundle of graphs is served as any other, by a process in which torch cannot be imported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported_bundles import RANK, STEPS
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.export.random_bundle import CAMERAS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient

TIMEOUT_S = 90.0

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'onnx', 'onnxscript'):
            raise ImportError(f"{name} is blocked in this test")

sys.meta_path.insert(0, Blocked())
from flexor.cli.main import main
main()
"""


def observe() -> Observation:
    generator = np.random.default_rng(0)
    images = {camera: generator.integers(0, 256, (48, 64, 3), np.uint8) for camera in CAMERAS}
    return Observation(images, generator.normal(size=8).astype(np.float32), "put the red cube on the plate")


def test_graphs_are_served_without_torch(exported: Bundle, source: Bundle, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path / 'policy.sock'}"
    command = [sys.executable, "-c", WITHOUT_TORCH, "serve", str(exported.path), "--bind", address]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None and server.stderr is not None
        line = server.stdout.readline()
        assert line.startswith(f"ready {address} {exported.id} onnx cpu fp32 threads=1"), server.stderr.read()
        with PolicyClient(address, TIMEOUT_S) as client:
            chunk = client.infer(observe(), step=0, noise_seed=5)
        server.send_signal(signal.SIGTERM)
        assert server.wait(TIMEOUT_S) == 0
    finally:
        server.kill()
        server.communicate(timeout=TIMEOUT_S)
    made_by = chunk.provenance
    assert (made_by.engine, made_by.provider, made_by.precision, made_by.flow_steps) == ("onnx", "cpu", "fp32", STEPS)
    weights = Policy(source, open_engine(source, flow_steps=STEPS))
    np.testing.assert_allclose(chunk.actions, weights.infer(observe(), 5).actions, atol=1e-4)


def test_the_command_exports_and_benches_what_it_made(source: Bundle, tmp_path: Path) -> None:
    made, told = tmp_path / "made", tmp_path / "told.json"
    line = ["export", str(source.path), "--out", str(made), "--rank", str(RANK), "--flow-steps", "2"]
    run = CliRunner().invoke(app, [*line, "--json", str(told)])
    assert run.exit_code == 0, run.output
    found = json.loads(told.read_text())
    assert (found["format"], found["prefix"], found["rank"], found["flow_steps"]) == ("onnx", "fp32", RANK, 2)
    assert set(found["bytes"]) == {"bundle.json", "expert.onnx", "norm_stats.json", "prefix.onnx", "tokenizer.json"}
    assert found["seconds"] > 0 and found["host_memory_mb"] > 100
    assert "already exists" in str(CliRunner().invoke(app, line).exception)
    line = ["bench", "engines", str(source.path), str(made), "--flow-steps", "2", "--flow-steps", "1", "--n", "3"]
    assert CliRunner().invoke(app, [*line, "--swaps", "2", "--json", str(told)]).exit_code == 0
    found = json.loads(told.read_text())["engines"]
    # Graphs with both of their steps inside take part once.
    assert [(row["engine"], row["flow_steps"]) for row in found] == [("torch", 2), ("torch", 1), ("onnx", 2)]
    assert found[0]["ratio"] == 1.0 and {row["n"] for row in found} == {3}
    assert all(row[key] > 0 for row in found for key in ("memory_mb", "carry_ratio", "load_ms"))
    assert all(isinstance(row["swap_ms"], float) for row in found)


def test_the_bench_loops_graphs_of_one_step_and_tells_nothing_of_adapters_unasked(
    source: Bundle, tmp_path: Path
) -> None:
    wish = Wish(rank=RANK, flow_steps=4, one_step=True)
    made, told = export_graphs(source, tmp_path / "step", wish).bundle, tmp_path / "told.json"
    line = ["bench", "engines", str(made.path), "--flow-steps", "4", "--flow-steps", "3", "--flow-steps", "2"]
    run = CliRunner().invoke(app, [*line, "--n", "2", "--swaps", "0", "--json", str(told)])
    assert run.exit_code == 0, run.output
    found = json.loads(told.read_text())["engines"]
    assert [(row["flow_steps"], row["bundle_flow_steps"], row["carry_ratio"]) for row in found] == [
        (4, 4, None),
        (2, 4, None),
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_bench_has_a_line_for_the_compiled_model(source: Bundle, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    line = ["bench", "engines", str(source.path), "--compiled", "--flow-steps", "1", "--n", "2", "--json", str(told)]
    line += ["--swaps", "1"]
    run = CliRunner().invoke(app, line)
    assert run.exit_code == 0, run.output
    eager, compiled = json.loads(told.read_text())["engines"]
    assert (eager["engine"], compiled["engine"], compiled["precision"]) == ("torch", "compiled", "fp32")
    assert eager["hash"] == compiled["hash"] == source.hash and compiled["p50_ms"] > 0
    assert (compiled["flow_steps"], compiled["bundle_flow_steps"], compiled["carry_ratio"]) == (1, 10, None)


def test_graphs_cannot_be_compiled_by_the_bench(exported: Bundle) -> None:
    error = CliRunner().invoke(app, ["bench", "engines", str(exported.path), "--compiled", "--n", "1"]).exception
    assert isinstance(error, FlexorError) and "torch.compile is for a bundle of weights" in str(error)


def test_int8_without_recorded_episodes_is_wrong_usage(source: Bundle, tmp_path: Path) -> None:
    line = ["export", str(source.path), "--out", str(tmp_path / "int8"), "--precision", "int8"]
    run = CliRunner().invoke(app, line)
    assert run.exit_code == 2 and "--episodes DIR" in run.output
