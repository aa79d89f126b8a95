"""Checkpoints of the real size, by their headers alone: all 812 or 813 names, every shape, nothing left over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from foreign_checkpoints import STATS, write_lerobot
from foreign_tensors import EXPERT, SMALL, VLM, names, save_hollow, tokenizer_json, write_json
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.export.checkpoints.importer import plan_import
from flexor.export.checkpoints.sizes import expected_shapes
from flexor.pi05.config import PRESETS, Pi05Config
from flexor.pi05.model import Pi05

FULL = PRESETS["pi05"]
HEADS = {
    f"{VLM}lm_head.weight": (257152, 2048),
    f"{EXPERT}lm_head.weight": (257152, 1024),
}


def full_shapes(prefix: str, vision_level: str, embed_tokens: bool) -> dict[str, tuple[int, ...]]:
    ours = expected_shapes(FULL)
    shapes = {theirs: ours[name] for theirs, name in names(FULL, vision_level).items()}
    stem = next(name for name in shapes if name.endswith("patch_embedding.weight"))
    shapes[stem] = (1152, 3, 14, 14)
    shapes |= HEADS
    if embed_tokens:
        shapes[f"{VLM}model.language_model.embed_tokens.weight"] = (257152, 2048)
    return {prefix + name: shape for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer_json(FULL.vocab_size, image_token=True))
    return path


@pytest.mark.parametrize("config", [FULL, SMALL], ids=["pi05", "small"])
def test_the_expected_shapes_are_those_of_the_network(config: Pi05Config) -> None:
    with torch.device("meta"):
        network = Pi05(config)
    assert expected_shapes(config) == {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("prefix", "vision_level", "embed_tokens", "count"),
    [("", "vision_model.", False, 812), ("model.", "vision_model.", True, 813), ("model.", "", True, 813)],
    ids=["lerobot/pi05_base", "finetuned", "of transformers 5.6 and later"],
)
def test_every_tensor_of_a_real_checkpoint_has_its_place(
    prefix: str, vision_level: str, embed_tokens: bool, count: int, tokenizer: Path, tmp_path: Path
) -> None:
    checkpoint = write_lerobot(tmp_path / "checkpoint")
    shapes = full_shapes(prefix, vision_level, embed_tokens)
    assert len(shapes) == count
    save_hollow(checkpoint / "model.safetensors", shapes)
    plan = plan_import(checkpoint, "full", tokenizer=tokenizer)
    assert plan.config.model.parameter_count() == 3_353_433_872
    assert plan.nbytes == 4 * 3_353_433_872
    assert len(plan.names.kept) + len(plan.names.dropped) == count
    assert len(plan.names.dropped) == (2 if embed_tokens else 1)
    sizes = plan.config.model
    assert (sizes.vision, sizes.prefix, sizes.expert) == (FULL.vision, FULL.prefix, FULL.expert)


def test_a_dry_run_tells_everything_and_writes_nothing(tokenizer: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "pi05_libero"
    checkpoint.mkdir()
    save_hollow(checkpoint / "model.safetensors", full_shapes("", "vision_model.", embed_tokens=False))
    write_json(checkpoint / "config.json", {"action_dim": 32, "action_horizon": 10, "precision": "float32"})
    write_json(checkpoint / "assets" / "physical-intelligence" / "libero" / "norm_stats.json", {"norm_stats": STATS})
    report, out = tmp_path / "report.json", tmp_path / "bundle"
    call = ["import", str(checkpoint), "--out", str(out), "--tokenizer", str(tokenizer)]
    result = CliRunner().invoke(app, [*call, "--dry-run", "--json", str(report)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pi05_libero", "report.json"]
    told = json.loads(report.read_text())
    assert told["origin"] == "openpi" and told["dry_run"] is True
    assert len(told["kept"]) == 811
    assert told["dropped"] == {f"{EXPERT}lm_head.weight": "the expert's word head, which nothing reads"}
    assert told["slots"] == {
        "base_0_rgb": "agentview",
        "left_wrist_0_rgb": "robot0_eye_in_hand",
        "right_wrist_0_rgb": None,
    }
    assert told["bundle"]["prompt"] == {"state": False}
    assert told["bundle"]["horizon"] == 10 and told["bundle"]["replan"] == 5
    assert told["norm_stats"]["state"]["q01"] == STATS["state"]["q01"]
