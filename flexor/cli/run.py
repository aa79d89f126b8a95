"""`flexor run`: drive a robot with a served policy, in real time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile


def run(
    robot: Annotated[str, typer.Option(help="Robot, e.g. sim:tabletop.")] = "sim:tabletop",
    server: Annotated[str | None, typer.Option(help="Data address of the policy server; by default serve's.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; the next ones follow.")] = 0,
    task: Annotated[list[str] | None, typer.Option(help="Task, may be given again; by default all in turn.")] = None,
    log: Annotated[Path, typer.Option(help="Folder of the recorded episodes.")] = Path("episodes"),
    images: Annotated[str, typer.Option(help="How frames are kept: jpeg, or png for exact replay.")] = "jpeg",
    gif: Annotated[
        Path | None, typer.Option(help="Write the last success, or else the last episode, as a GIF here.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Daemon settings as YAML.")] = None,
    json: JsonFile = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
) -> None:
    """Drive a robot with a served policy, in real time, and record its episodes.

    Exit code 1 when an episode had to be aborted. Ctrl-C ends the open episode as an abort and stops.

    Example: flexor run --robot sim:tabletop --episodes 4 --log episodes hold_limit_s=1.0
    """
    from flexor.cli.report import console, table, write_json
    from flexor.cli.run_view import RunView, refuse_aborted, summary, write_run_gif
    from flexor.flywheel.drive import drive
    from flexor.runtime.driving.daemon import DaemonSettings
    from flexor.runtime.driving.run_report import RunReport
    from flexor.runtime.driving.stop_signal import StopSignal
    from flexor.settings import load_settings

    settings = load_settings(DaemonSettings, config, overrides or [])
    report = RunReport()
    with StopSignal() as stopped, RunView(report, episodes, console) as view:
        try:
            drive(
                robot,
                server,
                log,
                episodes=episodes,
                seed=seed,
                tasks=task or (),
                report=report,
                settings=settings,
                images=images,
                stopped=stopped,
                watch=view.watch,
            )
        finally:
            write_json(json, {**report.to_dict(), "seed": seed, "robot": robot, "log_dir": log})
    if report.results:
        table("run", ("what", "value"), summary(report))
        console.print(f"episodes in {log}", highlight=False, markup=False, soft_wrap=True)
    if gif is not None and (report.results or not stopped()):
        write_run_gif(report, gif)
    if stopped():
        raise typer.Exit(130)
    refuse_aborted(report)
