"""Demonstrations in, bundle out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flexor.errors import FlexorError
from flexor.learner.crew import Crew, gather
from flexor.learner.demonstrations import Demonstrations, load_demonstrations
from flexor.learner.heap import keep_freed_memory
from flexor.learner.settings import PretrainSettings
from flexor.learner.trainer import Standing, Trainer
from flexor.pi05.config import PRESETS
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.action_space import FRANKA_DELTA_ACTIONS
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.bundle_writer import write_bundle


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how it goes: (episodes read, episodes in all) while data is read, and where training stands."""

    on_episode: Callable[[int, int], None]
    on_step: Callable[[Standing], None]


def pretrain(data: Path, out: Path, settings: PretrainSettings, watcher: Watcher) -> dict[str, Any]:
    """Train on the episodes in `data` and write the bundle `out`; the work in between lies in `out`.training.

    A run that was killed goes on from its last checkpoint when this is called again with the same arguments. A
    bundle that lies at `out` is replaced at the end. Then the index of `data` says that this bundle was learned from
    its successes, which are those that it was learned from.

    Returns:
        bundle, bundle_hash, parameters, samples, steps, minutes, samples_per_s, episodes, demonstration_samples, and
        the held-out numbers by name.

    Raises:
        FlexorError: the data cannot be used, `out` is something else than a bundle, the checkpoint is another run's,
            or, after the bundle is written, the index cannot be.
    """
    if settings.preset not in PRESETS:
        raise FlexorError(f"preset {settings.preset!r} is unknown; there are {', '.join(PRESETS)}")
    if out.exists() and not (out / BUNDLE_JSON).is_file():
        raise FlexorError(f"{out} exists and is no bundle; choose another --out, or remove it first")
    model = PRESETS[settings.preset]
    listed = EpisodeIndex(data).episodes(outcome="success")  # first: what ends meanwhile may be read or not
    demonstrations = load_demonstrations(
        data, settings.cameras, model.vision.image_size, model.horizon, watcher.on_episode
    )
    if not demonstrations.sentences:
        raise FlexorError(f"{data / 'sentences.json'} is missing; make it with: flexor collect --out {data}")
    # before an hour of training, not after it: an impossible name or setting shows here
    bundle_config(out.name, settings, demonstrations, {})
    folder = out.with_name(f"{out.name}.training")
    keep_freed_memory()
    with gather(settings.processes, _assist, (data, settings, folder)) as crew:
        trainer = Trainer(demonstrations, settings, folder, crew)
        measured = trainer.run(watcher.on_step)
    result = {
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "samples": trainer.samples,
        "steps": trainer.position,
        "minutes": trainer.seconds / 60,
        "samples_per_s": trainer.samples / trainer.seconds,
        "episodes": len(set(demonstrations.episodes.tolist())),
        "demonstration_samples": len(demonstrations.states),
        **measured,
    }
    chosen = settings.model_dump(mode="json") | {"init": trainer.began_from}  # a path would say nothing elsewhere
    origin = {"settings": chosen, "data": demonstrations.digest, **result}
    if demonstrations.render is not None:  # what `flexor eval` shows it by default
        origin["render"] = demonstrations.render
    average = trainer.average.model.state_dict()
    bundle = write_bundle(
        out,
        config=bundle_config(out.name, settings, demonstrations, origin),
        weights={name: tensor.to("cpu", torch.float16).numpy() for name, tensor in average.items()},
        tokenizer_json=trainer.tokenizer.to_json(),
        norm_stats=trainer.statistics,
        replace=True,
    )
    _mark_used(data, {row.id for row in listed}, bundle)
    return {"bundle": str(out), "bundle_hash": bundle.hash, **result}


def _assist(crew: Crew, data: Path, settings: PretrainSettings, folder: Path) -> None:
    """In another process of the crew: the same run on its share of the batches."""
    keep_freed_memory()
    model = PRESETS[settings.preset]
    demonstrations = load_demonstrations(data, settings.cameras, model.vision.image_size, model.horizon)
    Trainer(demonstrations, settings, folder, crew).assist()


def _mark_used(data: Path, ids: set[str], bundle: Bundle) -> None:
    index = EpisodeIndex(data)
    try:
        if left := ids & {row.id for row in index.episodes()}:  # less what was removed while it was learned from
            index.mark_used(left, bundle.id)
    except EpisodeError as error:
        raise EpisodeError(f"{bundle.path} is written, but its episodes are not marked as used: {error}") from error


def bundle_config(
    name: str, settings: PretrainSettings, demonstrations: Demonstrations, origin: dict[str, Any]
) -> BundleConfig:
    """What bundle.json will say about a policy trained so."""
    return BundleConfig(
        name=name,
        model=PRESETS[settings.preset],
        cameras=settings.cameras,
        state_dim=demonstrations.states.shape[1],
        normalization="quantile",
        prompt_state=True,
        replan=settings.replan,
        rtc_max_delay=settings.max_delay,
        flow_steps=settings.flow_steps,
        hz=demonstrations.hz,
        action_space=FRANKA_DELTA_ACTIONS,
        origin=origin,
        noise_scale=settings.noise_scale,
    )
