"""Capacity: what an adapter can learn of a changed world, offline, from demonstrations: the bound of any learner.

Demonstrations are recorded in the shifted world, the adapter is learned from the first so many of them, and its policy
plays episodes of other seeds there.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexor.flywheel.evaluate import evaluate, open_policy, open_simulation
from flexor.flywheel.row_file import Row
from flexor.learner.demonstrations import load_demonstrations
from flexor.learner.heap import keep_freed_memory
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.trainer import LoraStanding, LoraTrainer
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle
from flexor.runtime.inference.torch_merge import MAX_BYTES, merge_adapter
from flexor.sim.collect import SENTENCES_FILE, CollectSettings, Demonstration, collect
from flexor.sim.shift import Shift

DEMONSTRATION_SEED = 7000  # of the first one; evaluation has seeds of its own, 5000 to 6999


@dataclass(frozen=True, slots=True)
class CapacityWatcher:
    """Who is told how it goes: each demonstration and how many there will be, each step, each episode's row."""

    on_demonstration: Callable[[Demonstration, int], None]
    on_step: Callable[[LoraStanding], None]
    on_row: Callable[[Row], None]


@dataclass(frozen=True, slots=True)
class World:
    """Where it is learned, and where it is played.

    Attributes:
        sim: as open_robot takes it.
        learned: the shift that the demonstrations show.
        played: the shift that success is measured in; "none" shows what was forgotten.
    """

    sim: str
    learned: Shift
    played: Shift


def measure_capacity(
    bundle: Bundle,
    world: World,
    demonstrations: int,
    settings: LoraSettings,
    work: Path,
    *,
    replay: int = 0,
    episodes: int,
    seed: int,
    skip: int,
    workers: int,
    watcher: CapacityWatcher,
) -> dict[str, Any]:
    """Record what is missing, learn what is not learned yet, and play.

    Args:
        demonstrations: how many are learned from, failures of the expert left out.
        replay: demonstrations of the world without a shift that are learned from beside them, settings.replay_share of
            the samples; 0 for none.
        settings: of the learner; with a budget in steps, so that slices of one measurement share what was learned.
        work: recordings, prefixes, adapters and the bundles that they were merged into are kept in it.
        episodes, seed, skip, workers: as of `evaluate`.

    Returns:
        What `evaluate` returns of the learned policy, under the base bundle's name and hash, and: trained (numbers that
        were), samples, minutes, loss_before, loss_after (on held-out demonstrations).

    """
    shown = [(world.learned, demonstrations), *([(Shift("none"), replay)] if replay else [])]
    recorded = [(_record(work, world.sim, shift, count, workers, watcher), count) for shift, count in shown]
    learned, told = _learn(bundle, recorded, settings, work, watcher)
    result = evaluate(
        str(learned),
        world.sim,
        (),
        episodes,
        seed,
        workers,
        skip=skip,
        entropy=False,
        watch=watcher.on_row,
        make_robot=functools.partial(open_simulation, shift=world.played),
        make_policy=functools.partial(open_policy, precision=None),
    )
    return {**result, "bundle": bundle.name, "bundle_hash": bundle.hash, "learned": str(learned), **told}


def _record(work: Path, sim: str, shift: Shift, count: int, workers: int, watcher: CapacityWatcher) -> Path:
    """A folder of at least `count` demonstrations in a world."""
    named = hashlib.sha256(json.dumps(shift.to_dict(), sort_keys=True).encode()).hexdigest()[:8]
    out = work / f"{sim.removeprefix('sim:')}-{shift.level}-{named}"
    collect(out, sim, count, DEMONSTRATION_SEED, workers, CollectSettings(), watcher.on_demonstration, shift)
    return out


def _learn(
    bundle: Bundle,
    recorded: Sequence[tuple[Path, int]],
    settings: LoraSettings,
    work: Path,
    watcher: CapacityWatcher,
) -> tuple[Path, dict[str, Any]]:
    """The bundle with what was learned in its weights, and what learning it came to.

    Args:
        recorded: folders, and how many demonstrations of each: of the changed world, and of what is replayed.
    """
    shown = [[folder.name, count] for folder, count in recorded]
    asked = {**settings.identity(), "steps": settings.steps, "base": bundle.hash, "from": shown}
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    out = work / "learned" / name
    if not (out / BUNDLE_JSON).is_file():
        keep_freed_memory()
        model = bundle.model_config
        chosen = [_first(folder, count, work / f"{folder.name}-first-{count}") for folder, count in recorded]
        data = [load_demonstrations(path, bundle.cameras, model.vision.image_size, model.horizon) for path in chosen]
        pools = [SamplePool(part, bundle, settings) for part in data]
        trainer = LoraTrainer(bundle, pools, settings, work / "training" / name, work / "prefixes")
        before = trainer.held_out(learned=False)
        trainer.run(watcher.on_step)
        told = {
            "trained": sum(parameter.numel() for parameter in trainer.trained.live.values()),
            "samples": trainer.samples,
            "minutes": trainer.seconds / 60,
            "loss_before": before,
            "loss_after": trainer.held_out(),
        }
        adapter = write_adapter(
            work / "adapters",
            trainer.trained.published(),
            bundle,
            rank=settings.r,
            alpha=settings.lora_alpha,
            seed=settings.seed,
            metrics=told,
        )
        merge_adapter(bundle, adapter, out)
    adapter = work / "adapters" / Bundle.open(out).config.origin["merged"]
    return out, AdapterFolder.read(adapter, MAX_BYTES).manifest.metrics


def _first(recorded: Path, count: int, out: Path) -> Path:
    """A folder with the first `count` demonstrations of another one, by their seed, linked."""
    if not out.exists():
        rows = sorted(EpisodeIndex(recorded).episodes(), key=lambda row: int(row.seed))[:count]
        draft = out.with_name(f".{out.name}")
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "episodes").mkdir(parents=True)
        for row in rows:
            os.link(recorded / row.file, draft / row.file)
        shutil.copy(recorded / SENTENCES_FILE, draft / SENTENCES_FILE)
        draft.rename(out)
    return out
