"""TensorRT engines, really built for GPUs that are not here: what is in them, what is told of them, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_bundles import RANK, STEPS, TOKENS
from onnx import TensorProto, helper
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.export.exporter import Exported, Wish, export_graphs
from flexor.export.onnx.halve import halve
from flexor.export.recorded_observations import recorded_observations
from flexor.export.tensorrt.builder import build_engine
from flexor.export.tensorrt.network import TensorrtNetwork
from flexor.export.tensorrt.proof import open_as_written
from flexor.export.tensorrt.quantise import quantise_symmetric
from flexor.export.tensorrt.report import EngineReport
from flexor.export.tensorrt.targets import CURRENT, choose_targets
from flexor.pi05.config import PRESETS
from flexor.pi05.lora import packed_shapes
from flexor.pi05.lora_targets import PREFIX_PAIRS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.cuda_device import CudaError, count_devices
from flexor.runtime.inference.tensorrt_library import RTX, TensorrtLibrary

LIBRARY = TensorrtLibrary.load(RTX)
TARGETS = ("sm86", "sm89")


@pytest.fixture(scope="module")
def built(source: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    wish = Wish("tensorrt", "bf16", RANK, STEPS, one_step=True, targets=TARGETS)
    return export_graphs(source, tmp_path_factory.mktemp("built") / "engines", wish)


def parse(model: onnx.ModelProto, path: Path) -> TensorrtNetwork:
    onnx.save(model, path)
    return TensorrtNetwork(LIBRARY, path)


def feeds(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    asked = {"images": images, "tokens": generator.integers(3, 280, TOKENS), "token_count": np.array([9])}
    shapes = packed_shapes(PRESETS["pi05-micro"], RANK, PREFIX_PAIRS)
    return asked | {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def assert_near(narrow: Path, plain: Path, most: float = 0.05) -> None:
    """On a question that no scale was found on: another answer, and hardly another."""
    ours, theirs = (np.asarray(open_as_written(path).run(["cache"], feeds(2))[0]) for path in (narrow, plain))
    assert 0 < np.abs(ours - theirs).mean() < most * np.abs(theirs).mean()


@pytest.mark.timeout(900)
def test_both_engines_are_tied_to_library_version_and_gpus(built: Exported, source: Bundle) -> None:
    graphs = built.bundle.config.graphs
    assert graphs is not None and graphs.source == source.hash
    assert (graphs.format, graphs.prefix, graphs.expert, graphs.one_step) == ("tensorrt", "bf16", "bf16", True)
    tied = {"library": RTX, "version": LIBRARY.version, "targets": "sm86,sm89", "most_samples": "8"}
    assert dict(graphs.built_for) == tied
    names = {"prefix.engine", "expert.engine", "engines.json", "engines.md"}
    assert names <= {file.name for file in built.bundle.path.iterdir()}


@pytest.mark.timeout(900)
def test_the_report_tells_layers_precision_and_memory(built: Exported) -> None:
    told = json.loads((built.bundle.path / "engines.json").read_text())
    assert told["onnx_beside_fp32"] is None and told["most_samples"] == "8"
    for engine in told["engines"]:
        assert engine["engine_bytes"] == (built.bundle.path / f"{engine['graph']}.engine").stat().st_size
        assert engine["weight_bytes"]["bf16"] > 10_000
        assert set(engine["products"]) == {"bf16", "float"}  # attention and adapters stay in float32
    assert [row["graph"] for row in built.measured] == ["prefix", "expert"]
    text = (built.bundle.path / "engines.md").read_text()
    assert text.startswith(f"# micro-random in bf16 for sm86,sm89, by tensorrt_rtx {LIBRARY.version}\n")
    assert "| SOFTMAX | float |" in text and "| MATRIX_MULTIPLY | bf16 |" in text


@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_eight_bits_by_q_and_dq_reach_the_products_and_are_near(
    exported: Bundle, precision: str, tmp_path: Path
) -> None:
    plain = exported.path / "prefix.onnx"
    draft = tmp_path / "prefix.onnx"
    onnx.save(onnx.load(plain), draft)
    network = parse(quantise_symmetric(draft, precision, [feeds(0), feeds(1)]), tmp_path / "narrow.onnx")
    made = build_engine(network, ["sm89"], 8)
    report = EngineReport.of("prefix", network, made.nbytes, 0.0)
    assert report.products[precision] >= 8 and made.nbytes > 100_000
    assert_near(tmp_path / "narrow.onnx", plain, 0.05 if precision == "int8" else 0.1)  # e4m3 has 3 bits after the 1


@pytest.mark.timeout(900)
def test_a_gpu_without_a_precision_is_refused_by_us_and_by_the_library(exported: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FlexorError, match=r"sm86 does not multiply in fp8: that needs sm89 or newer; .*--targets"):
        choose_targets(["sm86", "sm89"], "fp8")
    draft = tmp_path / "prefix.onnx"
    onnx.save(onnx.load(exported.path / "prefix.onnx"), draft)
    network = parse(quantise_symmetric(draft, "fp8", [feeds(0)]), tmp_path / "narrow.onnx")
    with pytest.raises(FlexorError, match=r"cannot build narrow\.onnx for sm86: .*fp8.*; choose another --precision"):
        build_engine(network, ["sm86"], 8)


def test_targets_are_those_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    library, targets = choose_targets([], "fp32")
    assert library.name == RTX and set(targets) <= set(library.targets)
    with pytest.raises(FlexorError, match=r"does not build for sm90; it builds for .*sm89.*--targets current"):
        choose_targets(["sm89", "sm90"], "fp32")
    with pytest.raises(FlexorError, match="expected current alone"):
        choose_targets([CURRENT, "sm89"], "fp32")
    try:
        count_devices()
    except CudaError:
        with pytest.raises(CudaError, match=r"current: .*no NVIDIA GPU.*; name the GPUs .*sm89"):
            choose_targets([CURRENT], "fp32")


def test_an_operation_that_the_parser_does_not_know_is_named(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"], "odd")], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save_model(model, tmp_path / "odd.onnx")
    with pytest.raises(FlexorError, match=rf"{RTX} {LIBRARY.version} cannot read odd\.onnx: .*Det"):
        TensorrtNetwork(LIBRARY, tmp_path / "odd.onnx")


@pytest.mark.timeout(900)
def test_a_timing_cache_is_for_the_full_library_alone(exported: Bundle, tmp_path: Path) -> None:
    network = TensorrtNetwork(LIBRARY, exported.path / "prefix.onnx")
    with pytest.raises(FlexorError, match="of no use to TensorRT-RTX"):
        build_engine(network, ["sm89"], 8, timing_cache=tmp_path / "cache")


def test_products_of_bfloat16_can_be_asked_without_a_gpu(exported: Bundle, tmp_path: Path) -> None:
    plain = exported.path / "prefix.onnx"
    model = onnx.load(plain)
    halve(model, "bf16")
    onnx.save(model, tmp_path / "narrow.onnx")
    assert_near(tmp_path / "narrow.onnx", plain)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"format": "onnx", "targets": ("sm89",)}, "are for tensorrt, and format is onnx"),
        ({"format": "tensorrt", "precision": "fp4"}, "graphs for tensorrt are made in fp32, fp16, bf16, int8, fp8"),
        ({"format": "tensorrt", "most_samples": 0}, "most_samples is 0"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(wish: dict[str, object], message: str) -> None:
    with pytest.raises(FlexorError, match=message):
        Wish(**wish)  # type: ignore[arg-type]


def test_eight_bits_need_recorded_observations(source: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FlexorError, match="int8 needs more than 32 recorded observations, and there are 0"):
        export_graphs(source, tmp_path / "x", Wish("tensorrt", "int8", RANK, STEPS, targets=("sm89",)))
    line = ["export", str(source.path), "--format", "tensorrt", "--precision", "fp8", "--out", str(tmp_path / "x")]
    run = CliRunner().invoke(app, line)
    assert run.exit_code == 2 and "--episodes" in run.output


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_graphs_of_an_int8_engine_are_measured_beside_float32(
    source: Bundle, recorded: Path, tmp_path: Path
) -> None:
    observations = recorded_observations(recorded, source.config.cameras, 40)
    wish = Wish("tensorrt", "int8", RANK, STEPS, one_step=True, targets=("sm89",))
    made = export_graphs(source, tmp_path / "int8", wish, observations).bundle
    told = json.loads((made.path / "engines.json").read_text())
    assert told["onnx_beside_fp32"]["n"] == 8 and 0.9 < told["onnx_beside_fp32"]["cos_min"] < 1.0
    assert all(engine["products"]["int8"] > 0 for engine in told["engines"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_both_engines_of_the_shipped_policy_are_built(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    line = ["export", "pi05-nano", "--format", "tensorrt", "--precision", "bf16", "--targets", "sm86,sm89,sm120"]
    run = CliRunner().invoke(app, [*line, "--one-step", "--out", str(tmp_path / "nano"), "--json", str(told)])
    assert run.exit_code == 0, run.output
    found = json.loads(told.read_text())
    assert (found["format"], found["built_for"]["targets"]) == ("tensorrt", "sm86,sm89,sm120")
    assert min(found["bytes"]["prefix.engine"], found["bytes"]["expert.engine"]) > 1_000_000
