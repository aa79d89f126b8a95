"""`flexor plot`: pictures of what flexor works with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Pictures of what flexor works with.")


@app.callback()
def plot() -> None:
    """Pictures of what flexor works with."""


@app.command(epilog="Example: flexor plot shift --out docs/images")
def shift(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("images"),
    seed: Annotated[int, typer.Option(min=0, help="The episode that is drawn.")] = 5000,
    json: JsonFile = None,
) -> None:
    """Draw each axis of domain shift at each level, and tell how far it goes (docs/shift.md)."""
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, write_json
    from flexor.sim.shift import Shift
    from flexor.sim.shift_pictures import write_pictures
    from flexor.sim.shift_table import AXES, markdown

    written = []
    with Progress() as progress:
        for path in write_pictures(out, seed):
            written.append(path)
            progress.update("drawing", len(written), len(AXES), path.name)
    console.print(markdown(), highlight=False, markup=False, soft_wrap=True)
    write_json(json, {"files": [str(path) for path in written], "seed": seed, "shift": Shift("high").to_dict()})
