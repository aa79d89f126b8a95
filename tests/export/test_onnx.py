"""ONNX files that explain themselves, bundles of them that are checked, and an engine that computes the source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported_bundles import RANK, STEPS, question
from recordings import record
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.export.onnx.choose import WORTH
from flexor.export.onnx.tracing import OPSET
from flexor.export.recorded_observations import recorded_observations
from flexor.pi05.lora import packed_shapes, random_adapter
from flexor.pi05.program import Program
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle, file_sha256
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.engine import Engine, EngineError, open_engine
from flexor.runtime.inference.gates import GateError, gate_path
from flexor.runtime.inference.torch_engine import load_model


@pytest.fixture(scope="module")
def engine(exported: Bundle) -> Engine:
    return open_engine(exported)


@pytest.fixture(scope="module")
def program(source: Bundle) -> Program:
    return Program(load_model(source, None), STEPS)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    record(folder, episodes=6, steps=24, size=32)
    return folder


@pytest.fixture
def copied(exported: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(exported.path, tmp_path / "copy")
    return tmp_path / "copy"


def rehash(folder: Path, **changes: object) -> Bundle:
    """Make bundle.json tell of the files as they are now."""
    told = json.loads((folder / BUNDLE_JSON).read_text())
    told["graphs"] |= changes
    told["files"] = {name: file_sha256(folder / name) for name in told["files"] if (folder / name).exists()}
    (folder / BUNDLE_JSON).write_text(json.dumps(told))
    return Bundle.open(folder)


def ask(
    engine: Engine, count: int = 1, clamped: int = 0, slot: int = 0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    images, tokens, noise = question(9, count, seed)
    clamp = np.linspace(-1, 1, clamped * 7, dtype=np.float32).reshape(clamped, 7) if clamped else None
    return engine.denoise(engine.encode(images, tokens), noise, clamp, slot)


def expect(program: Program, count: int = 1, clamped: int = 0, slot: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images, tokens, noise = question(9, count)
    clamp = torch.linspace(-1, 1, clamped * 7).reshape(clamped, 7) if clamped else None
    prefix = program.encode(torch.from_numpy(images), torch.from_numpy(tokens))
    actions, velocities = program.denoise(prefix, torch.from_numpy(noise), clamp, slot)
    return actions.numpy(), velocities.numpy()


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("clamped", [0, 1, 5])
def test_the_engine_computes_what_the_source_computes(
    engine: Engine, program: Program, count: int, clamped: int
) -> None:
    found, expected = ask(engine, count, clamped), expect(program, count, clamped)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=5e-5)
    assert (engine.name, engine.provider, engine.precision, engine.flow_steps) == ("onnx", "cpu", "fp32", STEPS)


@pytest.mark.parametrize("rank", [RANK, 2])
def test_an_adapter_in_a_slot_is_the_one_merged_into_the_source(engine: Engine, program: Program, rank: int) -> None:
    adapter = random_adapter(program.config, rank, 0.5, rank)
    plain, before = ask(engine), expect(program)[0]
    engine.load_slot(2, adapter)
    program.load_slot(2, adapter)
    expected = expect(program, slot=2)[0]
    assert np.abs(expected - before).mean() > 0.1 * before.std()
    np.testing.assert_allclose(ask(engine, slot=2)[0], expected, atol=2e-5)
    np.testing.assert_array_equal(ask(engine)[0], plain[0])
    zeros = {name: np.zeros(shape, np.float32) for name, shape in packed_shapes(program.config, RANK).items()}
    for empty in (zeros, None):
        engine.load_slot(2, empty)
        np.testing.assert_array_equal(ask(engine, slot=2)[0], plain[0])


def test_a_larger_adapter_and_a_broken_one_leave_the_slot_as_it_was(engine: Engine, program: Program) -> None:
    adapter = random_adapter(program.config, RANK, 0.5, 1)
    engine.load_slot(1, adapter)
    before = ask(engine, slot=1)[0]
    larger = random_adapter(program.config, RANK + 1, 0.5, 1)
    with pytest.raises(
        EngineError, match=rf"has rank {RANK + 1}, .* at most {RANK}; .*flexor export --rank {RANK + 1}"
    ):
        engine.load_slot(1, larger)
    with pytest.raises(EngineError, match="down_b is missing"):
        engine.load_slot(1, {name: tensor for name, tensor in adapter.items() if name != "down_b"})
    for slot in (0, 4):
        with pytest.raises(EngineError, match=f"slot is {slot}; expected 1 to 3"):
            engine.load_slot(slot, adapter)
    np.testing.assert_array_equal(ask(engine, slot=1)[0], before)
    engine.load_slot(1, None)


def test_arrays_of_other_shapes_and_dtypes_are_refused_by_name(engine: Engine) -> None:
    images, tokens, noise = question(9)
    with pytest.raises(EngineError, match=r"images is float32 \[1, 3, 32, 32\]; expected float32 \[2, 3, 32, 32\]"):
        engine.encode(images[:1], tokens)
    prefix = engine.encode(images, tokens)
    for wrong in (noise[0], noise[:0], noise[:, :5], noise.astype(np.float64)):
        with pytest.raises(EngineError, match=r"noise is .*; expected float32 \['N', 10, 7\]"):
            engine.denoise(prefix, wrong, None)


def test_answers_are_the_callers_own_and_a_prefix_outlives_later_calls(engine: Engine) -> None:
    images, tokens, noise = question(9, 1, 1)
    prefix = engine.encode(images, tokens)
    first = engine.denoise(prefix, noise, None)[0]
    kept = first.copy()
    ask(engine, 8, 2, seed=2)
    np.testing.assert_array_equal(engine.denoise(prefix, noise, None)[0], kept)
    np.testing.assert_array_equal(first, kept)


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
    ("options", "message"),
    [
        ({"engine": "torch"}, "holds graphs for the engine onnx and no weights; take --engine onnx"),
        ({"precision": "int8"}, "exported in fp32, not in int8; export it again"),
        ({"flow_steps": 10}, f"exported with {STEPS} flow steps, not 10; export it again"),
        ({"provider": "cuda"}, r"provider 'cuda' was asked for, and this onnxruntime .* --provider cpu"),
        ({"provider": "npu"}, "has no provider 'npu'; choose one of: cpu, cuda"),
    ],
)
def test_what_the_graphs_are_not_is_refused(exported: Bundle, options: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(exported, **options)  # type: ignore[arg-type]


def test_weights_have_no_graphs_and_choose_no_provider(source: Bundle) -> None:
    with pytest.raises(EngineError, match="has no onnx graphs; make them: flexor export"):
        open_engine(source, "onnx")
    with pytest.raises(EngineError, match="engine torch takes no provider"):
        open_engine(source, provider="cuda")


def test_graphs_of_graphs_and_unknown_precisions_are_refused(exported: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FlexorError, match="holds graphs already"):
        export_graphs(exported, tmp_path / "again", Wish())
    with pytest.raises(FlexorError, match="precision is 'bf16'; graphs for onnx are made in fp32, fp16, int8"):
        Wish("onnx", "bf16")
    with pytest.raises(FlexorError, match="format is 'dxf'; choose one of: onnx"):
        Wish("dxf")


def test_an_altered_graph_is_refused(copied: Path) -> None:
    data = bytearray((copied / "expert.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "expert.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"expert\.onnx was altered"):
        Bundle.open(copied)


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


def test_verify_keeps_its_verdict_and_what_fails_is_not_served(
    copied: Path, source: Bundle, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["verify", str(copied), "--episodes", str(recorded), "--n", "6", "--json", str(tmp_path / "v.json")]
    assert isinstance(CliRunner().invoke(app, line).exception, BundleError)  # no shipped bundle of this name
    line += ["--source", str(source.path)]
    run = CliRunner().invoke(app, line)
    assert run.exit_code == 0, run.output
    found, report = (json.loads(path.read_text()) for path in (tmp_path / "v.json", copied / "parity.json"))
    assert found["passed"] is report["passed"] is True
    assert found["max_abs"] < 1e-4 and found["cos_min"] > 0.99999 and len(found["cos_by_dim"]) == 7
    assert all(adapter["moved"] >= 0.1 for adapter in found["adapters"]) and len(found["adapters"]) == 2
    open_engine(Bundle.open(copied))
    monkeypatch.setattr("flexor.export.graph_parity.LEAST", {"fp32": (2.0, 2.0)})
    assert CliRunner().invoke(app, line).exit_code == 3
    opened = Bundle.open(copied)
    assert gate_path(opened, "fp32").exists()
    with pytest.raises(GateError, match=r"failed its gate .*serve the bundle that it was exported from, .*--force"):
        open_engine(opened)
    open_engine(opened, force=True)


def test_verify_refuses_another_source(exported: Bundle, recorded: Path) -> None:
    line = ["verify", str(exported.path), "--episodes", str(recorded), "--source", "pi05-nano"]
    error = CliRunner().invoke(app, line).exception
    assert isinstance(error, FlexorError) and "was not exported from pi05-nano@" in str(error)
