"""ONNX files that explain themselves, in every precision, and what onnxruntime and bundle.json do not know."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_bundles import RANK, STEPS, ask, expect, rehash

from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.export.onnx.choose import WORTH
from flexor.export.onnx.tracing import OPSET
from flexor.export.recorded_observations import recorded_observations
from flexor.pi05.program import Program
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.engine import EngineError, open_engine
from flexor.runtime.inference.onnx_session import computed_on_cpu, open_session


@pytest.fixture
def copied(exported: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(exported.path, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("role", ["prefix", "expert"])
def test_a_file_alone_tells_what_it_is(exported: Bundle, source: Bundle, role: str) -> None:
    model = onnx.load(exported.path / f"{role}.onnx")
    facts = {entry.key.removeprefix("flexor."): entry.value for entry in model.metadata_props}
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    assert (facts["graph"], facts["source"], facts["bundle"]) == (role, source.hash, source.name)
    assert json.loads(facts["horizon"]) == 10 and json.loads(facts["flow_steps"]) == STEPS
    assert json.loads(facts["actions"])["units"][0] == "0.05 m"
    inputs = {port["name"]: port["shape"] for port in json.loads(facts["inputs"])}
    assert list(inputs) == [value.name for value in model.graph.input]
    assert inputs["images" if role == "prefix" else "noise"] == ([2, 3, 32, 32] if role == "prefix" else ["N", 10, 7])


def test_one_step_a_call_with_large_weights_beside_the_file(
    source: Bundle, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexor.export.onnx.graph_file.EXTERNAL_BYTES", 1000)
    wish = Wish(rank=RANK, flow_steps=STEPS, one_step=True)
    made = export_graphs(source, tmp_path / "step", wish).bundle
    assert (made.path / "expert.onnx.data").stat().st_size > 10 * 1024
    opened = open_engine(made)
    for found, expected in zip(ask(opened, 2, 3), expect(program, 2, 3), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-5)
    (made.path / "expert.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"expert\.onnx\.data is listed .* cannot be read"):
        Bundle.open(made.path)
    with pytest.raises(EngineError, match=r"cannot load .*expert\.onnx: .*export the bundle again"):
        open_engine(rehash(made.path))


def test_float16_is_half_the_size_and_near(source: Bundle, exported: Bundle, program: Program, tmp_path: Path) -> None:
    wish = Wish("onnx", "fp16", RANK, STEPS)
    made = export_graphs(source, tmp_path / "half", wish).bundle
    assert (made.path / "prefix.onnx").stat().st_size < 0.7 * (exported.path / "prefix.onnx").stat().st_size
    opened, expected = open_engine(made), expect(program)[0]
    assert opened.precision == "fp16"
    apart = np.abs(ask(opened)[0] - expected).max()
    assert 0 < apart < 0.02


@pytest.mark.slow
def test_int8_graphs_are_chosen_by_what_was_measured(source: Bundle, recorded: Path, tmp_path: Path) -> None:
    observations = recorded_observations(recorded, source.config.cameras, 64)
    exported = export_graphs(source, tmp_path / "int8", Wish("onnx", "int8", RANK, STEPS), observations)
    assert [(found["graph"], found["method"]) for found in exported.measured] == [
        (graph, method) for graph in ("prefix", "expert") for method in ("fp32", "dynamic", "static")
    ]
    graphs = exported.bundle.config.graphs
    assert graphs is not None
    for graph in ("prefix", "expert"):
        plain, *others = (found for found in exported.measured if found["graph"] == graph)
        worth = [found for found in others if found["passed"] and found["ms"] <= WORTH * plain["ms"]]
        assert getattr(graphs, graph) == ("int8" if worth else "fp32")
    assert all(found["cos_min"] < 1.0 for found in exported.measured if found["method"] != "fp32")
    with pytest.raises(FlexorError, match="int8 needs at least 64 recorded observations, and there are 3"):
        export_graphs(source, tmp_path / "few", Wish("onnx", "int8", RANK, STEPS), observations[:3])


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ("cuda", r"provider 'cuda' was asked for, and this onnxruntime .* --provider cpu"),
        ("npu", "has no provider 'npu'; choose one of: cpu, cuda"),
    ],
)
def test_a_provider_that_is_not_there_is_refused(exported: Bundle, provider: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(exported, provider=provider)


def test_what_would_be_computed_on_the_cpu_is_known_and_sizes_do_not_count(exported: Bundle) -> None:
    left = computed_on_cpu(open_session(exported.path / "expert.onnx", 1, "cpu"))
    assert "MatMul" in left or "Gemm" in left
    assert not {"Shape", "ConstantOfShape", "Unsqueeze"} & set(left)


def test_weights_choose_no_provider(source: Bundle) -> None:
    with pytest.raises(EngineError, match="engine torch takes no provider"):
        open_engine(source, provider="cuda")


def test_graphs_of_graphs_and_unknown_precisions_are_refused(exported: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FlexorError, match="holds graphs already"):
        export_graphs(exported, tmp_path / "again", Wish())
    with pytest.raises(FlexorError, match="precision is 'bf16'; graphs for onnx are made in fp32, fp16, int8"):
        Wish("onnx", "bf16")
    with pytest.raises(FlexorError, match="format is 'dxf'; choose one of: onnx"):
        Wish("dxf")


def _newer(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def _renamed(model: onnx.ModelProto) -> None:
    model.graph.input[2].name = "count"
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = "count" if name == "token_count" else name


@pytest.mark.parametrize(
    ("change", "message"), [(_newer, "cannot load .*prefix.onnx: .*pset"), (_renamed, "has .'count'.*asks for")]
)
def test_a_graph_that_this_runtime_or_bundle_does_not_know_is_told(
    copied: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load(copied / "prefix.onnx")
    change(model)
    onnx.save(model, copied / "prefix.onnx")
    with pytest.raises(EngineError, match=message):
        open_engine(rehash(copied))


@pytest.mark.parametrize("change", [{"format": "dxf"}, {"rank": 0}, {"prefix": "dxf"}, {"built_for": 1}, {"extra": 1}])
def test_an_impossible_line_about_graphs_is_refused(copied: Path, change: dict[str, object]) -> None:
    with pytest.raises(BundleError, match=f"graphs.*{next(iter(change))}|graphs has"):
        rehash(copied, **change)
