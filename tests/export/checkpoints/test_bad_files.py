"""What cannot become a bundle is refused before anything is written, by name and with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign_checkpoints import STATS, random_stats, write_openpi
from foreign_tensors import SMALL, edit_json, random_weights, save, save_shards, stored, tokenizer_json, write_json

from flexor.errors import FlexorError
from flexor.export.checkpoints.importer import plan_import, run_import
from flexor.export.checkpoints.recipe import Choices

ONE = np.ones((2, 2), np.float32)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def shard(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    save_shards(folder, stored(random_weights()))
    return folder / "model-00002-of-00003.safetensors"


def only(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda f: f.rename(f.parent / "elsewhere"), "is no folder; expected a checkpoint's"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has neither model.safetensors nor"),
    "JAX weights": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "params").mkdir()),
        "holds JAX weights; convert them with openpi's examples/convert_jax_model_to_pytorch.py",
    ),
    "an adapter alone": (lambda f: only(f, "adapter_model.safetensors"), "holds a LoRA adapter alone; merge it"),
    "pickled": (lambda f: only(f, "pytorch_model.bin"), "pickled weights, which are never read"),
    "cut short": (lambda f: cut(f / "model.safetensors", 90_000), r"was cut short: it is 90000 bytes, its header says"),
    "cut inside its header": (lambda f: cut(f / "model.safetensors", 500), "was cut short: it is 500 bytes"),
    "an error page": (
        lambda f: (f / "model.safetensors").write_text("<html>" + "sorry " * 99),
        "is not a safetensors file",
    ),
    "a Git LFS pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is not a safetensors file",
    ),
    "a damaged header": (
        lambda f: (f / "model.safetensors").write_bytes((20).to_bytes(8, "little") + b"{" * 20),
        "has a damaged safetensors header",
    ),
    "a shard cut short": (lambda f: cut(shard(f), 30_000), r"model-00002-of-00003.safetensors was cut short"),
    "a shard missing": (lambda f: shard(f).unlink(), "lacks the shard model-00002-of-00003.safetensors"),
    "shards of another index": (
        lambda f: (
            (shard(f), (f / "model-00002-of-00003.safetensors").rename(f / "model-00001-of-00003.safetensors"))
            and save(f / "model-00002-of-00003.safetensors", {"other": ONE})
        ),
        "which the index puts",
    ),
    "statistics missing": (
        lambda f: (f / "assets" / "physical-intelligence" / "libero" / "norm_stats.json").unlink(),
        r"has no assets/<asset id>/norm_stats.json; .* give --stats FILE",
    ),
    "statistics without quantiles": (
        lambda f: edit_json(
            f / "assets" / "physical-intelligence" / "libero" / "norm_stats.json",
            lambda d: d["norm_stats"]["state"].update(q01=None),
        ),
        r"statistics of state lack q01, which normalisation 'quantile' needs",
    ),
    "statistics of actions missing": (
        lambda f: edit_json(
            f / "assets" / "physical-intelligence" / "libero" / "norm_stats.json",
            lambda d: d["norm_stats"].pop("actions"),
        ),
        "has no statistics of state and actions",
    ),
    "statistics of another robot": (
        lambda f: write_json(
            f / "assets" / "physical-intelligence" / "libero" / "norm_stats.json",
            {"norm_stats": {"state": random_stats(14, 1), "actions": random_stats(14, 1)}},
        ),
        r"statistics of state have 14 channels and robot libero 8; they are another robot's: .*--robot",
    ),
    "padded statistics of another robot": (
        lambda f: write_json(
            f / "assets" / "physical-intelligence" / "libero" / "norm_stats.json",
            {"norm_stats": {"state": random_stats(32, 1), "actions": random_stats(32, 1)}},
        ),
        r"padded to 32, but channel 8 moves too",
    ),
    "an asset that tells nothing": (
        lambda f: (f / "assets" / "physical-intelligence").rename(f / "assets" / "mine"),
        r"asset 'mine/libero' is none of openpi's public ones .*--state-in-prompt .*--no-state-in-prompt",
    ),
    "two assets": (
        lambda f: write_json(f / "assets" / "droid" / "norm_stats.json", {"norm_stats": STATS}),
        r"has several assets: droid, physical-intelligence/libero; choose one with --dataset",
    ),
    "nothing but weights": (
        lambda f: ((f / "config.json").unlink(), (f / "assets").rename(f / "other")),
        r"tells of nothing; say which it is with --origin openpi\|lerobot\|opentau",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer .*; give --tokenizer"),
    "a tokenizer of another vocabulary": (
        lambda f: (f / "tokenizer.json").write_text(tokenizer_json(400)),
        "knows 400 tokens and the checkpoint embeds 420: it is another model's",
    ),
    "a tokenizer with more tokens": (
        lambda f: (f / "tokenizer.json").write_text(tokenizer_json(430)),
        "knows 430 tokens and the checkpoint embeds 420",
    ),
    "a tokenizer without a beginning": (
        lambda f: (f / "tokenizer.json").write_text(tokenizer_json().replace("<bos>", "<beg>")),
        "has no token <bos>: it is not PaliGemma's",
    ),
    "no tokenizer at all": (lambda f: (f / "tokenizer.json").write_text("{}"), "is not a tokenizer.json"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_missing_damaged_or_of_another_robot_are_refused(case: str, tmp_path: Path) -> None:
    change, message = FILES[case]
    checkpoint = write_openpi(tmp_path / "checkpoint")
    change(checkpoint)
    with pytest.raises(FlexorError, match=message):
        plan_import(checkpoint, "imported")


CHOICES: dict[str, tuple[Choices, str]] = {
    "unknown origin": (Choices(origin="octo"), "--origin is 'octo'; expected one of openpi, lerobot, opentau"),
    "padding without a state": (Choices(pad_state=True), "--pad-state pads the state in the prompt, and this prompt"),
    "a slot that is not there": (Choices(cameras={"base": "agentview"}), "--camera names the slot 'base'"),
    "a camera that is not there": (Choices(cameras={"base_0_rgb": "front"}), "--camera names 'front'"),
    "one camera twice": (Choices(cameras={"right_wrist_0_rgb": "agentview"}), "two image slots show the same camera"),
    "unknown prompt": (Choices(prompt="poem"), "prompt.format is 'poem'"),
    "unknown asset": (Choices(dataset="droid"), "has no asset 'droid'"),
    "a prompt that needs the state": (Choices(prompt="opentau-0.2"), "format 'opentau-0.2'; expected no padding and"),
    "statistics that are not there": (Choices(stats=Path("nowhere.json")), "nowhere.json cannot be read"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices_that_cannot_be_followed_are_refused(case: str, tmp_path: Path) -> None:
    choices, message = CHOICES[case]
    with pytest.raises(FlexorError, match=message):
        plan_import(write_openpi(tmp_path / "checkpoint"), "imported", choices=choices)


def test_both_answers_to_an_open_question_are_taken(tmp_path: Path) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint", asset="me/mine")
    for answer in (True, False):
        plan = plan_import(checkpoint, "imported", choices=Choices(state_in_prompt=answer))
        assert plan.config.prompt_state is answer


def test_an_unknown_horizon_is_asked_for(tmp_path: Path) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint", asset="me/mine", config=False)
    with pytest.raises(FlexorError, match=r"nothing tells how many actions a chunk has: .* give --horizon"):
        plan_import(checkpoint, "imported", choices=Choices(state_in_prompt=True))
    plan = plan_import(checkpoint, "imported", choices=Choices(state_in_prompt=True, horizon=20))
    assert plan.config.horizon == 20


def test_a_file_that_shrinks_while_it_is_read_leaves_no_bundle(tmp_path: Path) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint")
    plan = plan_import(checkpoint, "imported")
    cut(checkpoint / "model.safetensors", 50_000)
    with pytest.raises(FlexorError, match="ended early; download it again"):
        run_import(plan, tmp_path / "imported")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_no_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flexor.export.checkpoints import importer

    plan = plan_import(write_openpi(tmp_path / "checkpoint"), "imported")
    usage = importer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(importer.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(FlexorError, match="GB free; make room, or take --dtype bf16"):
        run_import(plan, tmp_path / "imported")


def test_a_bundle_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    plan = plan_import(write_openpi(tmp_path / "checkpoint"), "imported")
    run_import(plan, tmp_path / "imported")
    with pytest.raises(FlexorError, match="already exists"):
        run_import(plan, tmp_path / "imported")


def test_the_small_checkpoint_itself_is_good(tmp_path: Path) -> None:
    assert plan_import(write_openpi(tmp_path / "checkpoint"), "imported").config.model == SMALL
