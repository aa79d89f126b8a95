"""`flexor pretrain`: train a policy from demonstrations and write its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.learner.trainer import Standing


def pretrain(
    data: Annotated[Path, typer.Option(help="Folder that `flexor collect` wrote: episodes/ and sentences.json.")],
    out: Annotated[Path, typer.Option(help="Bundle to write; its name is the folder's.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
    preset: Annotated[str | None, typer.Option(help="Sizes of the model; pi05-nano by default.")] = None,
    init: Annotated[str | None, typer.Option(help="Bundle to go on from; by default from nothing.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall budget; 40 when no budget is given.")] = None,
    samples: Annotated[int | None, typer.Option(help="Budget in training samples, instead of --minutes.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; 1 by default.")] = None,
    processes: Annotated[int | None, typer.Option(help="CPU processes that share each batch; 1 by default.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as YAML.")] = None,
    json: JsonFile = None,
) -> None:
    """Train a policy from demonstrations and write its bundle.

    A run that was stopped or killed goes on from its last checkpoint (OUT.training/, at most a minute old) when the
    same command is given again. Curves: OUT.training/curves.jsonl and OUT.training/tensorboard.

    Example: flexor pretrain --data demonstrations --out my-nano --minutes 40 batch=64
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.learner.pretrain import Watcher
    from flexor.learner.pretrain import pretrain as train
    from flexor.learner.settings import PretrainSettings
    from flexor.settings import load_settings

    options = {"preset": preset, "init": init, "minutes": minutes, "samples": samples, "threads": threads}
    options["processes"] = processes
    given = [f"{key}={value}" for key, value in options.items() if value is not None] + (overrides or [])
    if config is None and not any(setting.startswith(("minutes=", "samples=")) for setting in given):
        given.append("minutes=40")
    settings = load_settings(PretrainSettings, config, given)

    with Progress() as progress:

        def on_episode(done: int, total: int) -> None:
            progress.update("reading episodes", done, total, f"{done} of {total}")

        def on_step(standing: Standing) -> None:
            note = f"{standing.samples} samples  loss {standing.loss:.3f}  {standing.samples_per_s:.0f}/s"
            progress.update("training", standing.spent, 1.0, note)

        result = train(data, out, settings, Watcher(on_episode, on_step))
    table("pretrained", ("", ""), result.items())
    write_json(json, result)
