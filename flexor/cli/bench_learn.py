"""`flexor bench learn`: the learner beside plain PEFT training of the same factors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile

DEMONSTRATIONS = 12


def learn(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
    episodes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Episodes to learn from; by default some are recorded.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each arm.")] = 200,
    json: JsonFile = None,
) -> None:
    """Learn the same adapter twice, in turns: with prefixes encoded once, and as plain PEFT training does it.

    Plain training goes through micro-batches of one sample, accumulated, and encodes each prefix without a gradient
    each time. Both have as many samples and draws a step. Encoding counts, measuring the held-out loss does not.

    Example: flexor bench learn pi05-nano --steps 200 --json learn.json
    """
    import tempfile

    from flexor.cli.bench_episodes import episodes_to_learn
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.learner.demonstrations import load_demonstrations
    from flexor.learner.heap import keep_freed_memory
    from flexor.learner.lora.sample_pool import SamplePool
    from flexor.learner.lora.settings import LoraSettings
    from flexor.learner.lora.timing import time_learner
    from flexor.runtime.inference.bundle import Bundle
    from flexor.settings import load_settings

    given = [f"steps={steps}", "batch=8", "accumulation=1", "held_out=0.1", *(overrides or [])]
    settings = load_settings(LoraSettings, None, given)
    opened = Bundle.open(bundle)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="flexor-bench-") as folder, Progress() as progress:
        source = episodes_to_learn(episodes, Path(folder), DEMONSTRATIONS, progress)
        model = opened.model_config
        found = load_demonstrations(source, opened.cameras, model.vision.image_size, model.horizon)
        pool = SamplePool(found, opened, settings)
        told = time_learner(
            opened, pool, settings, Path(folder), lambda done, total: progress.update("learning", done, total)
        )
    rows = [
        ("steps a second", told["steps_per_s"]),
        ("plain training, steps a second", told["baseline_steps_per_s"]),
        ("ratio", told["ratio"]),
        ("held-out loss before", told["loss_before"]),
        ("after", told["loss_after"]),
        ("after plain training", told["baseline_loss_after"]),
    ]
    table(f"{opened.id}: {told['steps']} steps of {settings.batch * settings.accumulation}", ("what", "measured"), rows)
    write_json(json, {"bundle": opened.id, "hash": opened.hash, "settings": settings.model_dump(mode="json"), **told})
