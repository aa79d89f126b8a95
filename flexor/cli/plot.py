"""`flexor plot`: pictures of what flexor works with, and reports of what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.plot_run import episode, run
from flexor.cli.report import JsonFile

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Pictures of what flexor works with.")


app.command(epilog="Example: flexor plot run runs/a --adapters adapters --out runs/a/report")(run)
app.command(epilog="Example: flexor plot episode runs/a --id ID --out episode.html")(episode)


@app.callback()
def plot() -> None:
    """Pictures of what flexor works with."""


@app.command(epilog="Example: flexor plot shift --sim libero_spatial --out docs/images")
def shift(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("images"),
    sim: Annotated[str, typer.Option(help="Simulator: tabletop, or a LIBERO suite, e.g. libero_spatial.")] = "tabletop",
    seed: Annotated[int, typer.Option(min=0, help="The episode that is drawn.")] = 5000,
    json: JsonFile = None,
) -> None:
    """Draw each axis of domain shift at each level, and tell how far it goes (docs/shift.md)."""
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, write_json
    from flexor.sim.libero.shift.table import LIBERO_DIALS
    from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
    from flexor.sim.shift import Shift
    from flexor.sim.shift_table import DIALS, markdown

    sim_robot(sim, (*EMBEDDED, *LIBERO))
    high = Shift.parse("high", sim=sim)
    if sim in LIBERO:
        from flexor.sim.libero.shift.pictures import write_libero_pictures

        pictures = write_libero_pictures(out, sim, seed)
    else:
        from flexor.sim.shift_pictures import write_pictures

        pictures = write_pictures(out, seed)
    written = []
    with Progress() as progress:
        for path in pictures:
            written.append(path)
            progress.update("drawing", len(written), len(high.axes), path.name)
    dials = LIBERO_DIALS if sim in LIBERO else DIALS
    console.print(markdown(dials), highlight=False, markup=False, soft_wrap=True)
    write_json(json, {"files": [str(path) for path in written], "sim": sim, "seed": seed, "shift": high.to_dict()})


@app.command(epilog="Example: flexor plot engines engines.json --eval torch.json --eval int8.json --out engines.png")
def engines(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What flexor bench engines --json wrote.")],
    eval_: Annotated[
        list[Path],
        typer.Option(
            "--eval", metavar="FILE", help="What flexor eval --json wrote, with --gate of two bundles; repeat."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture, a PNG.")] = Path("engines.png"),
    json: JsonFile = None,
) -> None:
    """Draw what a chunk takes in each engine against the success of the same bundle (docs/export.md)."""
    from flexor.cli.report import console, table, write_json
    from flexor.flywheel.engines_plot import arms, join_success, read_report, write_engines_plot

    timed, evaluated = read_report(file), [arm for path in eval_ for arm in arms(read_report(path))]
    rows, left = join_success(timed.get("engines", ()), evaluated)
    write_engines_plot(rows, f"{evaluated[0]['sim'].removeprefix('sim:')}, CPU threads {timed.get('threads')}", out)
    columns = ("name", "p50_ms", "p95_ms", "success_rate", "episodes")
    table(f"engines in {out}", ("", *columns[1:]), [[row[key] for key in columns] for row in rows])
    for name in left:
        console.print(f"not evaluated: {name}", highlight=False, markup=False, soft_wrap=True)
    write_json(json, {"file": str(out), "engines": rows, "not_evaluated": left})
