"""Every key of configs/lora.yaml changes what a learner does, and what it is said to change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from learning_daemon import SMALL
from recordings import CAMERAS

from flexor.learner.curves import read_curves
from flexor.learner.demonstrations import load_demonstrations
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.trainer import CHECKPOINT, LoraTrainer
from flexor.runtime.inference.bundle import Bundle
from flexor.settings import load_settings

FILE = Path(__file__).parents[3] / "configs" / "lora.yaml"
STEPS = 4
STEADY = {"steps": STEPS, "profile": "expert", "log_steps": 1, "checkpoint_s": 1e9, "ema": 0.5, "warmup_steps": 2}
"""What is learned with where nothing else is said; the bundle continues committed actions, up to five."""


@dataclass(frozen=True)
class Run:
    """What can be seen of a run.

    Attributes:
        losses: of every step.
        live, published: all factors in a row, as they were trained and averaged.
        shapes: of the factors by name.
        samples, rows: drawn, and lines of its curves.
        held_out: numbers of the samples that are never learned from.
        kept: files of prefixes, and their bytes.
        saved: whether there was a checkpoint after the first step.
    """

    losses: tuple[float, ...]
    live: tuple[float, ...]
    published: tuple[float, ...]
    shapes: dict[str, tuple[int, ...]]
    samples: int
    rows: int
    held_out: tuple[int, ...]
    kept: tuple[int, int]
    saved: bool
    threads: int


def learn(base: Bundle, data: list[Path], folder: Path, **changes: Any) -> Run:
    settings = LoraSettings.model_validate({**SMALL, **STEADY, **changes})
    model = base.model_config
    found = [load_demonstrations(one, CAMERAS, model.vision.image_size, model.horizon) for one in data]
    pools = [SamplePool(demonstrations, base, settings) for demonstrations in found]
    threads = torch.get_num_threads()
    try:
        trainer = LoraTrainer(base, pools, settings, folder / "run", folder / "prefixes")
        used = torch.get_num_threads()
        losses: list[float] = []
        saved: list[bool] = []

        def on_step(standing: Any) -> None:
            losses.append(standing.loss)

        def pause() -> None:
            saved.append((folder / "run" / CHECKPOINT).exists())

        trainer.run(on_step, pause)
    finally:
        torch.set_num_threads(threads)
    published = trainer.trained.published()
    prefixes = list((folder / "prefixes").rglob("*.safetensors"))
    return Run(
        losses=tuple(losses),
        live=tuple(np.concatenate([factor.detach().numpy().ravel() for factor in trainer.trained.live.values()])),
        published=tuple(np.concatenate([np.ravel(side) for pair in published.values() for side in pair])),
        shapes={name: np.shape(a) for name, (a, _) in published.items()},
        samples=trainer.samples,
        rows=len(read_curves(folder / "run" / "curves.jsonl")),
        held_out=tuple(pools[0].held_out.tolist()),
        kept=(len(prefixes), sum(path.stat().st_size for path in prefixes)),
        saved=any(saved[1:]),
        threads=used,
    )


@pytest.fixture(scope="module")
def usual(base: Bundle, changed: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return learn(base, [changed, recordings], tmp_path_factory.mktemp("usual"))


CHANGES: dict[str, tuple[Any, str]] = {
    "profile": ("projector", "shapes"),
    "r": (2, "shapes"),
    "lora_alpha": (64.0, "losses"),
    "trains": ("weights", "live"),
    "optimiser": ("muon", "live"),
    "seed": (1, "losses"),
    "steps": (STEPS + 1, "losses"),
    "batch": (1, "samples"),
    "accumulation": (1, "samples"),
    "draws": (1, "losses"),
    "max_delay": (0, "losses"),
    "encodings": (1, "losses"),
    "replay_share": (0.9, "losses"),
    "lr": (1e-4, "live"),
    "warmup_steps": (0, "live"),
    "final_lr": (1.0, "live"),
    "weight_decay": (0.5, "live"),
    "clip": (1e-3, "live"),
    "ema": (0.0, "published"),
    "prefix_noise": (3.0, "losses"),
    "prefix_flips": (1.0, "losses"),
    "state_noise": (2.0, "losses"),
    "shift_pixels": (0, "losses"),
    "things": (9, "losses"),
    "brightness": (0.9, "losses"),
    "contrast": (0.9, "losses"),
    "colour": (0.9, "losses"),
    "held_out": (0.4, "held_out"),
    "checkpoint_s": (0.0, "saved"),
    "log_steps": (2, "rows"),
    "precision": ("bf16", "losses"),
    "threads": (2, "threads"),
}
"""By key: another value, and what of a run it has to change."""


@pytest.mark.parametrize("key", list(CHANGES))
def test_a_key_changes_what_it_is_said_to_change(
    usual: Run, base: Bundle, changed: Path, recordings: Path, tmp_path: Path, key: str
) -> None:
    value, what = CHANGES[key]
    run = learn(base, [changed, recordings], tmp_path, **{key: value})
    assert getattr(run, what) != getattr(usual, what)
    if key == "ema":
        assert run.live == usual.live
    if what == "live":
        assert run.losses[0] == usual.losses[0], "what an update does shows from the next step on"
    if what in ("saved", "rows", "threads"):
        assert run.losses == pytest.approx(usual.losses, rel=1e-4)


def test_minutes_end_a_run_that_steps_would_not(base: Bundle, changed: Path, tmp_path: Path) -> None:
    run = learn(base, [changed], tmp_path, minutes=1e-9, steps=None)
    assert len(run.losses) == 1


def test_cached_prefixes_stay_within_cache_mb(base: Bundle, changed: Path, tmp_path: Path) -> None:
    wide = learn(base, [changed], tmp_path / "wide", batch=32)
    count, size = wide.kept
    assert size > 1_000_000, "else this test says nothing"
    narrow = learn(base, [changed], tmp_path / "narrow", batch=32, cache_mb=1)
    assert narrow.kept[1] <= 1_000_000 and narrow.kept[0] < count
    assert narrow.losses == wide.losses


def test_trackers_that_are_not_installed_are_asked_for(base: Bundle, changed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wandb is not installed"):
        learn(base, [changed], tmp_path, trackers=("wandb",))


def test_every_key_of_the_file_is_here() -> None:
    elsewhere = {"minutes", "cache_mb", "trackers"}  # above
    elsewhere |= {"load_in_8bit", "gradient_checkpointing"}  # test_memory.py
    elsewhere |= {"foresight"}  # test_whole_weights.py
    elsewhere |= {"thing_pixels"}  # of no use without things: test_sample_pool.py
    assert set(yaml.safe_load(FILE.read_text())["lora"]) == {*CHANGES, *elsewhere}
    assert load_settings(LoraSettings, FILE, ["steps=1"], "lora").steps == 1
