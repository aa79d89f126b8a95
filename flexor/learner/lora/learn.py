"""Episodes in, adapter out: one run of the learner from its data to what it publishes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexor.learner.demonstrations import Demonstrations, load_demonstrations
from flexor.learner.heap import keep_freed_memory
from flexor.learner.lora.memory_knobs import naming_the_next_knob
from flexor.learner.lora.recording_form import RecordingForm
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.trainer import LoraStanding, LoraTrainer, never_pause
from flexor.learner.work_lock import WorkLock
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle


@dataclass(frozen=True, slots=True)
class LearnWatcher:
    """Who is told how it goes: (episodes read, episodes in all) while data is read, and where learning stands."""

    on_episode: Callable[[int, int], None]
    on_step: Callable[[LoraStanding], None]


def learn(
    bundle: Bundle,
    episodes: Path,
    out: Path,
    settings: LoraSettings,
    watcher: LearnWatcher,
    replay: Path | None = None,
    pause: Callable[[], None] = never_pause,
) -> dict[str, Any]:
    """Learn one adapter from the successful episodes in `episodes` and publish it.

    Work in between lies in `out`.training; a run that was killed goes on from its last checkpoint when this is called
    again with the same arguments.

    Args:
        out: the directory of adapters, in which a folder VERSION-HASH appears.
        replay: folder of the base's own demonstrations, against forgetting.
        pause: called before every micro-batch, held-out ones too; it may take its time.

    Returns:
        adapter, steps, samples, minutes, loss_before and loss_after on held-out samples, and the same of
        the replayed ones where there are any.

    Raises:
        FlexorError: the data cannot be used, another learner has the work folder, no memory is left, or the run cannot
            go on.
    """
    work = work_folder(out)
    with WorkLock(work), naming_the_next_knob(settings):
        return _learn(bundle, episodes, out, settings, watcher, replay, pause, work)


def work_folder(out: Path) -> Path:
    """Where checkpoints, curves and encoded prefixes of the adapters in `out` lie."""
    return out.with_name(f"{out.name}.training")


def _learn(
    bundle: Bundle,
    episodes: Path,
    out: Path,
    settings: LoraSettings,
    watcher: LearnWatcher,
    replay: Path | None,
    pause: Callable[[], None],
    work: Path,
) -> dict[str, Any]:
    keep_freed_memory()
    listed = [row.id for row in EpisodeIndex(episodes).episodes(outcome="success")]
    loaded = [_load(bundle, folder, watcher) for folder in (episodes, replay) if folder is not None]
    pools = [SamplePool(demonstrations, bundle, settings) for demonstrations in loaded]
    run = {**settings.identity(), "base": bundle.hash, "data": [pool.digest for pool in pools]}
    name = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]
    trainer = LoraTrainer(bundle, pools, settings, work / name, work / "prefixes")
    before = [trainer.held_out(pool, learned=False, pause=pause) for pool in range(len(pools))]
    trainer.run(watcher.on_step, pause)
    after = [trainer.held_out(pool, pause=pause) for pool in range(len(pools))]
    result: dict[str, Any] = {"steps": trainer.position, "samples": trainer.samples, "minutes": trainer.seconds / 60}
    for what, start, end in zip(("", "replay_"), before, after, strict=False):
        result |= {f"{what}loss_before": start, f"{what}loss_after": end}
    folder = write_adapter(
        out,
        trainer.trained.published(),
        bundle,
        rank=settings.r,
        alpha=settings.lora_alpha,
        episodes=listed,
        seed=settings.seed,
        metrics={name: float(value) for name, value in result.items()},
    )
    EpisodeIndex(episodes).mark_used(set(listed), folder.name)
    return {"adapter": str(folder), **result}


def _load(bundle: Bundle, folder: Path, watcher: LearnWatcher) -> Demonstrations:
    model, form = bundle.model_config, RecordingForm(bundle)
    found = load_demonstrations(folder, bundle.cameras, model.vision.image_size, model.horizon, watcher.on_episode)
    form.check_rate(folder, found.hz)
    form.check(folder, {"states": found.states, "actions": found.actions, "played": found.played})
    return found
