"""Graphs of every format behind the same door: they compute the source, carry adapters, and are refused elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exported_bundles import RANK, STEPS, ask, expect, question, rehash
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.pi05.lora import packed_shapes, random_adapter
from flexor.pi05.lora_targets import ALL_PAIRS
from flexor.pi05.program import Program
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.engine import Engine, EngineError, open_engine
from flexor.runtime.inference.gates import GateError, gate_path
from flexor.runtime.inference.torch_engine import load_model

FORMATS = ["onnx", "torchscript", pytest.param("pt2", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
"""Those whose files can be run here; pt2 is compiled, which takes a while."""


@pytest.fixture(scope="module", params=FORMATS)
def made(request: pytest.FixtureRequest, exported_as: Callable[[str], Bundle]) -> Bundle:
    return exported_as(request.param)


@pytest.fixture(scope="module")
def engine(made: Bundle) -> Engine:
    return open_engine(made)


@pytest.fixture
def copied(made: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(made.path, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("clamped", [0, 1, 5])
def test_the_engine_computes_what_the_source_computes(
    made: Bundle, engine: Engine, program: Program, count: int, clamped: int
) -> None:
    found, expected = ask(engine, count, clamped), expect(program, count, clamped)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=5e-5)
    graphs = made.config.graphs
    assert graphs is not None
    name = graphs.format
    assert (engine.name, engine.provider, engine.precision, engine.flow_steps) == (name, "cpu", "fp32", STEPS)


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
    deep = random_adapter(program.config, RANK, 0.5, 1, ALL_PAIRS)
    with pytest.raises(EngineError, match="changes image tower or prefix layers, and graphs take only projector and"):
        engine.load_slot(1, deep)
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "torch"}, "holds graphs for the engine {name} and no weights; take --engine {name}"),
        ({"precision": "int8"}, "exported in fp32, not in int8; export it again"),
        ({"flow_steps": 10}, f"exported with {STEPS} flow steps, not 10; export it again"),
        ({"provider": "npu"}, "engine {name} has no provider 'npu'"),
    ],
    ids=["engine", "precision", "steps", "provider"],
)
def test_what_the_graphs_are_not_is_refused(made: Bundle, options: dict[str, object], message: str) -> None:
    graphs = made.config.graphs
    assert graphs is not None
    with pytest.raises(EngineError, match=message.format(name=graphs.format)):
        open_engine(made, **options)  # type: ignore[arg-type]


def test_a_call_a_step_makes_the_same_chunk(source: Bundle, program: Program, tmp_path: Path, made: Bundle) -> None:
    graphs = made.config.graphs
    assert graphs is not None
    wish = Wish(graphs.format, rank=RANK, flow_steps=STEPS, one_step=True)
    stepwise = export_graphs(source, tmp_path / "step", wish).bundle
    for found, expected in zip(ask(open_engine(stepwise), 2, 3), expect(program, 2, 3), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-5)
    longer = Program(load_model(source, None), 1)  # a step three times as long
    for found, expected in zip(ask(open_engine(stepwise, flow_steps=1), 2, 3), expect(longer, 2, 3), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-5)
    with pytest.raises(EngineError, match=f"exported with {STEPS} flow steps, not 2; export it again"):
        open_engine(stepwise, flow_steps=2)


@pytest.mark.parametrize("format_", ["onnx", "torchscript", "pt2"])
def test_weights_have_no_graphs_of_any_format(source: Bundle, format_: str) -> None:
    with pytest.raises(EngineError, match=f"has no {format_} graphs; make them: flexor export .* --format {format_}"):
        open_engine(source, format_)


def test_an_altered_graph_is_refused(copied: Path) -> None:
    (expert,) = copied.glob("expert.*")
    data = bytearray(expert.read_bytes())
    data[len(data) // 2] ^= 1
    expert.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{expert.name} was altered"):
        Bundle.open(copied)


def test_files_of_other_tensors_than_the_bundle_tells_of_are_refused(copied: Path) -> None:
    with pytest.raises(
        EngineError, match=r"prefix\.\w+ has .*projector_a.*, and bundle.json asks for .*; export the bundle"
    ):
        open_engine(rehash(copied, rank=RANK + 1))


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


def test_verify_refuses_another_source(made: Bundle, recorded: Path) -> None:
    line = ["verify", str(made.path), "--episodes", str(recorded), "--source", "pi05-nano"]
    error = CliRunner().invoke(app, line).exception
    assert isinstance(error, FlexorError) and "was not exported from pi05-nano@" in str(error)
