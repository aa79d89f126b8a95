"""Graphs whose weights are written layer by layer are those that are traced with all of them in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported_bundles import RANK, STEPS
from pi05.parity.cases import CONFIGS
from safetensors.torch import load_file, save_file

from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.export.graphs.partial_model import load_part, parameter_groups
from flexor.export.random_bundle import write_random_bundle
from flexor.export.recorded_observations import recorded_observations
from flexor.pi05.lora import random_adapter
from flexor.runtime.inference.bundle import BUNDLE_JSON, WEIGHTS, Bundle, file_sha256
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.timing.swap_engine import AskedEngine

LARGE = "flexor.export.onnx.exporter.LARGE_BYTES"


def export_layered(bundle: Bundle, out: Path, wish: Wish, patch: pytest.MonkeyPatch) -> tuple[Bundle, list[str]]:
    """Export as if the model were too large, and what was told; reading it as a whole is an error."""
    told: list[str] = []
    with patch.context() as patched:
        patched.setattr(LARGE, 0)
        patched.setattr("flexor.runtime.inference.torch_engine.load_model", None)
        return export_graphs(bundle, out, wish, told=told.append).bundle, told


def answers(bundle: Bundle) -> list[np.ndarray]:
    """Actions and velocities of two samples: without an adapter, with one that matters, after committed actions."""
    model, engine, generator = bundle.model_config, open_engine(bundle), np.random.default_rng(5)
    size = model.vision.image_size
    images = generator.uniform(-1, 1, (len(bundle.cameras), 3, size, size)).astype(np.float32)
    tokens = generator.integers(0, model.vocab_size, 9)
    noise = generator.standard_normal((2, model.horizon, model.action_dim), np.float32)
    engine.load_slot(1, random_adapter(model, RANK, 0.3, seed=1))
    found: list[np.ndarray] = []
    for slot, clamp in ((0, None), (1, None), (1, noise[0, :3])):
        found += engine.denoise(engine.encode(images, tokens, slot), noise, clamp, slot)
    assert np.abs(found[2] - found[0]).mean() > 0.1 * found[0].std()
    return found


@pytest.mark.parametrize(("precision", "one_step"), [("fp32", False), ("fp16", True)])
def test_layer_by_layer_is_the_same_bit_for_bit(
    source: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, one_step: bool
) -> None:
    wish = Wish("onnx", precision, RANK, STEPS, one_step=one_step)
    whole = export_graphs(source, tmp_path / "whole", wish).bundle
    layered, told = export_layered(source, tmp_path / "layered", wish, monkeypatch)
    for ours, theirs in zip(answers(layered), answers(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for role in ("prefix", "expert"):
        assert (layered.path / f"{role}.onnx.data").stat().st_size > 10_000
        first, second = (onnx.load(bundle.path / f"{role}.onnx").metadata_props for bundle in (whole, layered))
        assert list(first) == list(second)
    groups = parameter_groups(source.model_config)["prefix"]
    assert [line for line in told if line.startswith("prefix: ")] == [
        "prefix: tracing",
        *(f"prefix: {group}, {place} of {len(groups)}" for place, group in enumerate(groups, 1)),
    ]


@pytest.mark.slow
def test_the_shipped_policy_is_the_same_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nano, wish = Bundle.open("pi05-nano"), Wish(flow_steps=2)
    whole = export_graphs(nano, tmp_path / "whole", wish).bundle
    layered, _ = export_layered(nano, tmp_path / "layered", wish, monkeypatch)
    for ours, theirs in zip(answers(layered), answers(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_weight_of_a_graph_follows_from_one_part_of_the_model(source: Bundle) -> None:
    groups = parameter_groups(source.model_config)
    names = [name for parts in groups.values() for part in parts.values() for name in part]
    assert sorted(names) == sorted(load_file(source.weights_path))
    part = groups["prefix"]["prefix_layers.0"]
    loaded = load_part(source, part).state_dict()
    assert {name for name, tensor in loaded.items() if not tensor.is_meta} == set(part)
    assert all(loaded[name].dtype == torch.float32 for name in part)


def _retold(folder: Path) -> Bundle:
    """Make bundle.json tell of the weights as they are now."""
    told = json.loads((folder / BUNDLE_JSON).read_text())
    told["files"][WEIGHTS] = file_sha256(folder / WEIGHTS)
    (folder / BUNDLE_JSON).write_text(json.dumps(told))
    return Bundle.open(folder)


def _lost(weights: dict[str, torch.Tensor]) -> None:
    del weights["projector.bias"]


def _foreign(weights: dict[str, torch.Tensor]) -> None:
    weights["value_head.weight"] = torch.zeros(2, 2)


def _reshaped(weights: dict[str, torch.Tensor]) -> None:
    weights["projector.bias"] = torch.zeros(3)


def _infinite(weights: dict[str, torch.Tensor]) -> None:
    weights["prefix_layers.1.attention.k_proj.weight"][0, 0] = torch.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lost, r"projector\.bias is missing; expected \[48\]"),
        (_foreign, r"value_head\.weight is \[2, 2\]; expected no such tensor"),
        (_reshaped, r"projector\.bias is \[3\]; expected \[48\]"),
        (_infinite, r"prefix_layers\.1\.attention\.k_proj\.weight holds numbers that are not finite"),
    ],
)
def test_weights_of_another_model_are_refused(
    source: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, torch.Tensor]], None],
    message: str,
) -> None:
    made = write_random_bundle(tmp_path / "made", source.model_config, "made")
    weights = load_file(made.weights_path)
    change(weights)
    save_file(weights, made.weights_path)
    with pytest.raises(BundleError, match=message):
        export_layered(_retold(made.path), tmp_path / "out", Wish(rank=RANK, flow_steps=STEPS), monkeypatch)
    assert not (tmp_path / "out").exists()


def test_eight_bits_of_a_large_model_are_refused(
    source: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Path
) -> None:
    observations = recorded_observations(recorded, source.config.cameras, 64)
    monkeypatch.setattr(LARGE, 0)
    with pytest.raises(FlexorError, match=r"layer by layer, and 8 bits are .* export it with --precision fp16 or fp32"):
        export_graphs(source, tmp_path / "out", Wish("onnx", "int8", RANK, STEPS), observations)


_EXPORT = """
import resource, sys
from pathlib import Path
import flexor.export.onnx.exporter as exporter
from flexor.export.exporter import Wish, export_graphs
from flexor.runtime.inference.bundle import Bundle
import torch
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
exporter.LARGE_BYTES = 0
export_graphs(Bundle.open(sys.argv[1]), Path(sys.argv[2]), Wish(flow_steps=1))
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_an_export_holds_less_than_the_weights_in_float32_and_computes_the_same(tmp_path: Path) -> None:
    """Real widths, three layers: 0.45 billion weights."""
    wide = replace(CONFIGS["wide"], max_prompt_tokens=24)
    made = write_random_bundle(tmp_path / "wide", wide, "wide-random")
    command = [sys.executable, "-c", _EXPORT, str(made.path), str(tmp_path / "graphs")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = int(run.stdout.splitlines()[-1])
    print(f"{taken / 1e9:.2f} GB")
    assert taken < 4 * wide.parameter_count()
    graphs = Bundle.open(tmp_path / "graphs")
    sizes = sum(file.stat().st_size for file in graphs.path.glob("*.data"))
    assert sizes > 2.5 * wide.parameter_count()  # of the last layer the graph holds keys and values alone
    found, expected = (
        AskedEngine(open_engine(bundle, flow_steps=1), bundle, samples=2).chunk(0) for bundle in (graphs, made)
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
