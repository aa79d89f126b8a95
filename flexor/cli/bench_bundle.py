"""`flexor bench bundle`: random weights of any size, to measure where the real ones are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def bundle(
    preset: Annotated[str, typer.Argument(help="Sizes: pi05, pi05-nano or pi05-micro.")],
    out: Annotated[Path, typer.Option(help="Folder to become the bundle.")],
    layers: Annotated[
        int | None, typer.Option(min=1, help="Of image tower, prefix and expert each; by default all.")
    ] = None,
    vocabulary: Annotated[int | None, typer.Option(min=1, help="Words it knows; by default the preset's.")] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Actions of a chunk.")] = 10,
    json: JsonFile = None,
) -> None:
    """Write a bundle with random weights, of a preset's sizes or of a slice of its layers.

    To time, to export and to measure memory where the real weights are not at hand. pi05 takes 6.7 GB of disk and some
    minutes.

    Example: flexor bench bundle pi05 --layers 2 --vocabulary 4096 --out runs/pi05-slice
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, write_json
    from flexor.export.random_bundle import sliced, write_random_bundle

    model = sliced(preset, layers, vocabulary, horizon)
    name = f"{preset}-random" if layers is None else f"{preset}-{layers}-layers-random"
    with Progress() as progress:
        made = write_random_bundle(
            out, model, name, lambda done, total: progress.update("writing weights", done, total)
        )
    console.print(f"{made.id}: {model.parameter_count():,} random weights in {out}")
    write_json(json, {"bundle": made.id, "path": str(out), "parameters": model.parameter_count()})
