"""`flexor learn`: an adapter from episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.learner.lora.trainer import LoraStanding


def learn(
    bundle: Annotated[str, typer.Option(help="Folder of a bundle, or the name of one that ships with flexor.")],
    episodes: Annotated[Path, typer.Option(help="Folder of episodes to learn from: episodes/ and sentences.json.")],
    out: Annotated[Path, typer.Option(help="Directory of adapters; for profile=full the bundle to write.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
    replay: Annotated[Path | None, typer.Option(help="The base's own demonstrations, against forgetting.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall budget; 5 when no budget is given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in optimiser steps, instead of --minutes.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as YAML, see configs/lora.yaml.")] = None,
    json: JsonFile = None,
) -> None:
    """Learn one adapter from the successes among some episodes, and publish it.

    A run that was stopped or killed goes on from its last checkpoint (OUT.training/) when the same command is given
    again. Curves: OUT.training/RUN/curves.jsonl and OUT.training/RUN/tensorboard.

    Example: flexor learn --bundle pi05-nano --episodes data/shifted --out adapters --steps 400 batch=8 accumulation=1
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.learner.lora.learn import LearnWatcher
    from flexor.learner.lora.learn import learn as learn_adapter
    from flexor.learner.lora.settings import LoraSettings
    from flexor.runtime.inference.bundle import Bundle
    from flexor.settings import load_settings

    options = {"minutes": minutes, "steps": steps}
    given = [f"{key}={value}" for key, value in options.items() if value is not None] + (overrides or [])
    if config is None and not any(setting.startswith(("minutes=", "steps=")) for setting in given):
        given.append("minutes=5")
    settings = load_settings(LoraSettings, config, given)
    opened = Bundle.open(bundle)
    with Progress() as progress:

        def on_episode(done: int, total: int) -> None:
            progress.update("reading episodes", done, total, f"{done} of {total}")

        def on_step(standing: LoraStanding) -> None:
            progress.update("learning", standing.spent, 1.0, f"step {standing.step}  loss {standing.loss:.3f}")

        result = learn_adapter(opened, episodes, out, settings, LearnWatcher(on_episode, on_step), replay)
    table("learned", ("", ""), result.items())
    write_json(json, result)
