"""`flexor demo`: the whole loop on the embedded default, in real time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def demo(
    bundle: Annotated[
        str, typer.Option(help="Folder of a bundle, or the name of one that ships with flexor.")
    ] = "pi05-nano",
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes; the tasks take turns.")] = 8,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first episode; 5000 to 9999 were not trained on.")
    ] = 9000,
    log: Annotated[Path, typer.Option(help="Folder of the recorded episodes.")] = Path("runs/demo"),
    gif: Annotated[
        Path | None, typer.Option(help="Write the last success, or else the last episode, as a GIF here.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Show the whole loop: a policy server in its own process drives a simulated Franka in real time.

    Nothing is left running afterwards; the episodes stay on disk.

    Example: flexor demo --gif demo.gif
    """
    from flexor.cli.report import console, table, write_json
    from flexor.cli.run_view import RunView, refuse_aborted, summary, write_run_gif
    from flexor.flywheel.demo import run_demo
    from flexor.runtime.driving.run_report import RunReport
    from flexor.runtime.driving.stop_signal import StopSignal

    report = RunReport()
    console.print(f"starting the policy server of {bundle}")
    with StopSignal() as stopped, RunView(report, episodes, console) as view:
        result = run_demo(bundle, log, episodes=episodes, seed=seed, report=report, stopped=stopped, watch=view.watch)
    if report.results:
        table("demo", ("what", "value"), summary(report))
        console.print(f"episodes in {log}; see them with: flexor episodes list {log}")
    write_json(json, result)
    if gif is not None and (report.results or not stopped()):
        write_run_gif(report, gif)
    if stopped():
        raise typer.Exit(130)
    refuse_aborted(report)
