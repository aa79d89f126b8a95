"""`flexor demo`: one turn of the flywheel on the embedded default, in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from flexor.cli.report import JsonFile

STORY = {
    "0/show": "the policy works in the world that it was trained for, in real time",
    "0/familiar": "how often it succeeds there, faster than in real time",
    "0/reserve": "demonstrations from before anything changes, to be learned from again against forgetting",
    "0/measure": "the world changes: light, colours, camera, friction, things on the table; how often it succeeds now",
    "1/collect": "it works on there, in real time; once it fails too often, an expert takes over where it goes wrong",
    "1/decide": "is there something to learn?",
    "1/learn": "it learns from these episodes, beside the server, in its slack",
    "1/gate": "what it learned beside what it was, in both worlds",
    "1/offer": "the server takes the adapter without missing a chunk",
    "1/measure": "how often it succeeds now",
    "1/again": "where it failed, once more",
}
"""What each stage is about."""


def demo(
    bundle: Annotated[
        str | None, typer.Option(help="Folder of a bundle, or the name of one that ships; pi05-nano if not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the run; given again, it goes on. By default a new one in runs/."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the loop.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Show one turn of the flywheel on one task: success, a changed world, a drop, learning, a swap, success again.

    A policy server, a robot and a learner as three processes, as in `flexor flywheel`, with fewer episodes. It tells
    what came of it, also when what was learned does not help, and where the report lies. Nothing is left running.

    Example: flexor demo --out runs/demo
    """
    from flexor.cli.report import console, progress_console, write_json
    from flexor.flywheel.demo import Demo
    from flexor.flywheel.online.watcher import Watcher
    from flexor.runtime.driving.stop_signal import StopSignal

    out = out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_line(line: str) -> None:
        progress_console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)

    watcher = Watcher(lambda stage: say(f"- {STORY[stage.key]}"), on_line, lambda row: say(f"  {_told(row)}"))
    with StopSignal() as stopped, Demo(out, bundle, watcher, stopped, overrides or []) as run:
        result = run.turn()
    say(result["verdict"])
    say(f"{result['minutes']:.1f} minutes; everything is in {out}")
    say(
        f"the report is {result['report']}"
        if result["report"] is not None
        else f"there is no report: {result['report_trouble']}"
    )
    write_json(json, {**result, **run.world, "out": out})
    if stopped():
        raise typer.Exit(130)


def _told(row: Mapping[str, Any]) -> str:
    """What a stage came to, in a line."""
    if "ci95" in row:
        low, high = row["ci95"]
        said = f"{row['successes']} of {row['episodes']} succeeded (95 %: {low:.0%} to {high:.0%})"
    else:
        left_out = {"cycle", "verb", "seconds", "failure_labels", "shifted", "unshifted"}
        shown = {key: value for key, value in row.items() if key not in left_out and value is not None}
        said = ", ".join(
            f"{key.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
            for key, value in shown.items()
        )
    return f"{said or 'done'}   ({row['seconds']:.0f} s)"
