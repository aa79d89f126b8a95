"""Learning an adapter: what is trained, what is cached, and that a killed run ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_learners import pool_of, settings, trainer_of

from flexor.errors import FlexorError
from flexor.learner.curves import read_curves
from flexor.learner.lora.learn import LearnWatcher, learn
from flexor.learner.lora.live_prefixes import LivePrefixes
from flexor.learner.lora.prefix_sources import KEPT
from flexor.learner.lora.profile import PROFILES, add_lora
from flexor.learner.lora.trainer import LoraTrainer
from flexor.pi05.flow import flow_loss
from flexor.pi05.lora import pack
from flexor.pi05.lora_targets import target_sizes
from flexor.pi05.model import Pi05
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.torch_engine import load_model
from flexor.runtime.inference.torch_merge import merge_adapter

QUIET = LearnWatcher(lambda done, total: None, lambda standing: None)
LIMIT_S = 150.0


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_profile_trains_its_projections_and_nothing_else(base: Bundle, profile: str):
    model = load_model(base, torch.float32)
    trained = add_lora(model.requires_grad_(False), profile, 4, 8.0, seed=0)
    owners = {name.partition(".lora_")[0] for name in trained}
    assert owners == set(PROFILES[profile](base.model_config))
    assert len(trained) == 2 * len(owners)
    assert set(target_sizes(base.model_config)) - owners == ({"projector"} if profile == "expert" else set())


def test_fresh_factors_change_no_bit_of_what_the_model_computes(base: Bundle, changed: Path, tmp_path: Path):
    trainer = trainer_of(base, changed, tmp_path)
    plain = load_model(base, torch.float32)
    pool = pool_of(changed, base, trainer.settings)
    prefix = trainer._sources[0].prefixes([0, 1], [0, 0])
    noised, times = torch.randn(2, 3, 10, 7), torch.rand(2, 3, 10)
    assert torch.equal(trainer.model.velocity(prefix, noised, times), plain.velocity(prefix, noised, times))
    assert len(pool.training)


@pytest.mark.parametrize("profile", list(KEPT))
def test_what_is_encoded_once_gives_the_loss_of_what_is_computed_now(
    base: Bundle, changed: Path, tmp_path: Path, profile: str
):
    trainer = trainer_of(base, changed, tmp_path, profile=profile)
    pool = pool_of(changed, base, trainer.settings)
    rows, encodings = [0, 5, 9, 20], [0, 1, 3, 0]
    actions, committed, _ = pool.chunks(np.array(rows), None)
    losses = []
    for _ in range(2):  # computed and kept, then read
        prefix = trainer._sources[0].prefixes(rows, encodings)
        generator = torch.Generator().manual_seed(5)
        losses.append(flow_loss(trainer.model, prefix, actions, 4, 3, generator, committed)[0])
    alone = []
    generator = torch.Generator().manual_seed(5)
    live = trainer_of(base, changed, tmp_path / "live", profile="full")._sources[0].prefixes(rows, encodings)
    alone.append(flow_loss(trainer.model, live, actions, 4, 3, generator, committed)[0])
    assert torch.equal(losses[0], losses[1])
    torch.testing.assert_close(losses[0], alone[0], rtol=1e-5, atol=1e-6)


def test_what_the_tower_saw_teaches_the_projector_what_whole_images_do(base: Bundle, changed: Path, tmp_path: Path):
    kept = trainer_of(base, changed, tmp_path / "kept", profile="projector")
    live = trainer_of(base, changed, tmp_path / "live", profile="projector")
    live._sources = [LivePrefixes(live.model, pool_of(changed, base, live.settings))]
    for trainer in (kept, live):
        for _ in range(3):
            trainer.step(1.0)
    for name, factor in kept.trained.live.items():
        torch.testing.assert_close(factor, live.trained.live[name], rtol=1e-4, atol=1e-6)
    a, b = kept.trained.published()["projector"]
    assert np.abs(b @ a).max() > 0


def test_each_encoding_is_computed_once_and_another_base_finds_none_of_them(
    base: Bundle, changed: Path, tmp_path: Path
):
    first = trainer_of(base, changed, tmp_path)
    for _ in range(3):
        first._sources[0].prefixes([1, 2], [0, 2])
    again = trainer_of(base, changed, tmp_path)
    again._sources[0].prefixes([1, 2, 2], [0, 2, 3])
    assert (first._sources[0].encoded, first._sources[0].read) == (2, 4)  # type: ignore[attr-defined]
    assert (again._sources[0].encoded, again._sources[0].read) == (1, 2)  # type: ignore[attr-defined]
    again._sources[0]._named = "another base"  # type: ignore[attr-defined]
    again._sources[0].prefixes([1], [0])
    assert again._sources[0].encoded == 2  # type: ignore[attr-defined]


def test_an_adapter_learns_what_has_changed(base: Bundle, changed: Path, tmp_path: Path):
    trainer = trainer_of(base, changed, tmp_path, steps=120)
    before = trainer.held_out()
    trainer.run(lambda standing: None)
    assert trainer.held_out() < 0.8 * before
    assert trainer.held_out(learned=False) == before  # a resumed run tells it, too


def test_two_pools_are_learned_from_together(base: Bundle, changed: Path, recordings: Path, tmp_path: Path):
    chosen = settings(steps=6, replay_share=0.5)
    pools = [pool_of(folder, base, chosen) for folder in (changed, recordings)]
    trainer = LoraTrainer(base, pools, chosen, tmp_path / "run", tmp_path / "prefixes")
    trainer.run(lambda standing: None)
    asked = [source.encoded + source.read for source in trainer._sources]  # type: ignore[attr-defined]
    assert sum(asked) == 6 * 8
    assert min(asked) > 10


KINDS = [("expert", "factors"), ("full", "factors"), ("full", "weights")]
"""What is trained, and how."""


def trained_of(base: Bundle, changed: Path, tmp_path: Path, profile: str, trains: str, **changes: Any) -> LoraTrainer:
    """After four steps; of whole weights all of their change is published, for r is not below their smaller side."""
    whole: dict[str, Any] = {"trains": "weights", "optimiser": "muon", "r": 64, "lora_alpha": 64.0, "warmup_steps": 0}
    kind = whole if trains == "weights" else {}
    chosen: dict[str, Any] = {"profile": profile, "ema": 0.0, "steps": 4, **kind, **changes}
    trainer = trainer_of(base, changed, tmp_path, **chosen)
    trainer.run(lambda standing: None)
    return trainer


def merged_of(base: Bundle, trainer: LoraTrainer, tmp_path: Path) -> Bundle:
    chosen, factors = trainer.settings, trainer.trained.published()
    adapter = write_adapter(tmp_path / "adapters", factors, base, rank=chosen.r, alpha=chosen.lora_alpha)
    return merge_adapter(base, adapter, tmp_path / "merged")


@pytest.mark.parametrize(("profile", "trains"), KINDS)
def test_a_merged_bundle_computes_what_was_trained_and_the_model_is_as_it_was(
    base: Bundle, changed: Path, tmp_path: Path, profile: str, trains: str
):
    trainer = trained_of(base, changed, tmp_path, profile, trains)
    with trainer.trained.averaged():
        expected = chunk_of(trainer.model)
    merged = merged_of(base, trainer, tmp_path)
    written, untouched = (chunk_of(load_model(bundle, torch.float32)) for bundle in (merged, base))
    moved = (expected - untouched).abs().mean()
    assert (written - expected).abs().mean() < 0.05 * moved  # bundles are stored in float16
    with trainer.trained.left_out():
        torch.testing.assert_close(chunk_of(trainer.model), untouched, rtol=1e-4, atol=1e-5)


def test_a_merged_bundle_keeps_the_bases_own_numbers_where_nothing_was_learned(
    base: Bundle, changed: Path, tmp_path: Path
):
    trainer = trained_of(base, changed, tmp_path, "projector", "factors", precision="bf16")  # holds its base narrower
    merged = merged_of(base, trainer, tmp_path)
    before, after = (load_model(bundle, torch.float32).state_dict() for bundle in (base, merged))
    changed_ones = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed_ones <= {f"{name}.weight" for name in target_sizes(base.model_config)}
    assert len(changed_ones) > 5


def chunk_of(model: Pi05) -> torch.Tensor:
    """Actions for one fixed observation and noise."""
    config, generator = model.config, torch.Generator().manual_seed(3)
    size = config.vision.image_size
    images = torch.rand((1, 2, 3, size, size), generator=generator) * 2 - 1
    tokens = torch.randint(3, 40, (1, 12), generator=generator)
    noise = torch.randn((2, config.horizon, config.action_dim), generator=generator)
    with torch.no_grad():
        return model.denoise(model.encode(images, tokens), noise, 4)[0]


@pytest.mark.parametrize(("profile", "trains"), KINDS)
def test_what_is_published_gives_the_engine_the_actions_of_what_was_trained(
    base: Bundle, changed: Path, tmp_path: Path, profile: str, trains: str
):
    trainer = trained_of(base, changed, tmp_path, profile, trains, steps=10)
    config, chosen = base.model_config, trainer.settings
    packed = pack(config, trainer.trained.published(), chosen.lora_alpha / chosen.r, chosen.r)
    engine = open_engine(base)
    engine.load_slot(1, packed)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, config.vision.image_size, config.vision.image_size))
    tokens, noise = np.arange(6), np.random.default_rng(1).normal(size=(1, 10, 7)).astype(np.float32)
    plain, sampled = (
        engine.denoise(engine.encode(images.astype(np.float32), tokens, slot), noise, None, slot)[0] for slot in (0, 1)
    )
    with torch.no_grad():
        seen = trainer.model.encode(torch.from_numpy(images.astype(np.float32))[None], torch.from_numpy(tokens)[None])
        expected, _ = trainer.model.denoise(seen, torch.from_numpy(noise), engine.flow_steps)
    np.testing.assert_allclose(sampled, expected.numpy(), atol=2e-4)
    assert np.abs(sampled - plain).max() > 1e-2


@pytest.mark.parametrize("profile", list(PROFILES))
def test_learning_publishes_an_adapter_of_every_profile(base: Bundle, changed: Path, tmp_path: Path, profile: str):
    out = tmp_path / "out"
    result = learn(base, changed, out, settings(profile=profile, steps=40), QUIET)
    assert result["loss_after"] < result["loss_before"]
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    assert result["adapter"] == str(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["base"], len(manifest["episodes"])) == (base.hash, 10)
    assert set(manifest["adapter_schema"]["targets"]) == set(PROFILES[profile](base.model_config))


def test_a_checkpoint_of_other_settings_is_refused(base: Bundle, changed: Path, tmp_path: Path):
    trainer_of(base, changed, tmp_path).save()
    with pytest.raises(FlexorError, match=r"\br\b"):
        trainer_of(base, changed, tmp_path, r=4)


def test_a_loss_that_is_not_finite_changes_nothing_and_says_what_to_do(base: Bundle, changed: Path, tmp_path: Path):
    trainer = trainer_of(base, changed, tmp_path)
    before = {name: factor.detach().clone() for name, factor in trainer.trained.live.items()}
    with torch.no_grad():
        trainer.model.action_out_proj.base_layer.bias[0] = np.nan  # type: ignore[union-attr,index,operator]
    with pytest.raises(FlexorError, match="lower lr"):
        trainer.step(1.0)
    assert all(torch.equal(before[name], factor) for name, factor in trainer.trained.live.items())


RUN = """
import sys
from pathlib import Path
from flexor.cli.main import main
sys.argv = ["flexor", *sys.argv[1:]]
main()
"""


def start(base: Bundle, data: Path, out: Path) -> subprocess.Popen[bytes]:
    chosen = ["batch=4", "accumulation=2", "draws=4", "precision=fp32", "held_out=0.2", "log_steps=1", "checkpoint_s=0"]
    command = [
        "learn",
        "--once",
        "--bundle",
        str(base.path),
        "--episodes",
        str(data),
        "--out",
        str(out),
        "--steps",
        "30",
    ]
    return subprocess.Popen([sys.executable, "-c", RUN, *command, *chosen], stdout=subprocess.DEVNULL)


def curves(out: Path) -> list[dict[str, float]]:
    work = out.with_name(f"{out.name}.training")
    return [row for path in work.glob("*/curves.jsonl") for row in read_curves(path)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_ends_with_the_losses_and_the_adapter_of_an_undisturbed_one(
    base: Bundle, changed: Path, tmp_path: Path
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(base, changed, whole).wait(timeout=LIMIT_S) == 0
    for step in (4, 11, 23):
        process = start(base, changed, broken)
        deadline = time.monotonic() + LIMIT_S
        while not any(row["step"] >= step for row in curves(broken)):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, f"no step {step} within {LIMIT_S} s"
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=LIMIT_S)
        assert not broken.exists()
    assert start(base, changed, broken).wait(timeout=LIMIT_S) == 0
    told = [[(row["step"], row["train/loss"]) for row in curves(out)] for out in (whole, broken)]
    assert told[0] == told[1]
    assert [step for step, _ in told[0]] == list(range(1, 31))
    ours, theirs = (load_file(next(out.glob("*/adapter_model.safetensors"))) for out in (broken, whole))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
