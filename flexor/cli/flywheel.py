"""`flexor flywheel`: a policy in a changed world that notices, learns and gets better, while it works."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from flexor.cli.report import JsonFile


def flywheel(
    out: Annotated[Path, typer.Option(help="Folder of the run; given again, the run goes on where it was.")],
    bundle: Annotated[str | None, typer.Option(help="Folder of a bundle, or a shipped name: model.bundle.")] = None,
    sim: Annotated[str | None, typer.Option(help="Simulator, tabletop or a LIBERO suite: task.")] = None,
    shift: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="none, low, medium or high: domain_shift.current_level.")
    ] = None,
    cycles: Annotated[int, typer.Option(min=1, help="Collect, learn, offer, measure: so many times.")] = 2,
    seed: Annotated[int, typer.Option(min=0, max=2, help="Which episodes it learns from; all are measured alike.")] = 0,
    operator: Annotated[
        bool, typer.Option("--operator", help="A person judges and takes over, in the place of the simulator.")
    ] = False,
    gamepad: Annotated[Path | None, typer.Option(metavar="DEVICE", help="The operator's, e.g. /dev/input/js0.")] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Settings; several, the later wins: configs/continual.yaml."),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
    json: JsonFile = None,
) -> None:
    """Let a policy work in a changed world, learn from its own episodes there, and measure what it comes to.

    A policy server, a robot and a learner as three processes. In each cycle the robot collects episodes; while a
    trigger stands (success, failures in a row), the simulation's expert corrects them; the learner makes an adapter;
    the server tries it against its parent and takes it or not; success is measured on seeds of its own. At the end
    base and last adapter play fresh seeds, shifted and not. Ctrl-C, or a kill, loses nothing that was finished: the
    same command goes on.

    Example: flexor flywheel --out runs/wheel --shift medium --cycles 2

    Example, few episodes of one task of a suite: flexor flywheel --out runs/bowl --sim libero_spatial
    --bundle runs/pi05-nano-libero 'tasks=[pick_up_the_black_bowl_on_the_stove_and_place_it_on_the_plate]'

    With --operator each episode waits for a person, who says how it ended and may take the arm (docs/operator.md).
    Nothing is then asked of the simulator, and what it alone can do, the gate and measuring, is left out.

    Example, a control that learns nothing: flexor flywheel --out runs/off --cycles 2 learning=false
    """
    from flexor.cli.report import console, progress_console, table, write_json
    from flexor.flywheel.online.settings import OnlineSettings
    from flexor.flywheel.online.watcher import Watcher
    from flexor.flywheel.online.wheel import Wheel
    from flexor.runtime.driving.stop_signal import StopSignal
    from flexor.runtime.teleop.devices import open_devices
    from flexor.settings import load_settings

    options = {"model.bundle": bundle, "task": sim, "domain_shift.current_level": shift}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    settings = load_settings(OnlineSettings, config or [], [*given, *(overrides or [])])

    def on_line(line: str) -> None:
        progress_console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_row(row: Mapping[str, Any]) -> None:
        console.print(_told(row), highlight=False, markup=False, soft_wrap=True)

    watcher = Watcher(lambda stage: on_line(f"{stage.key} begins"), on_line, on_row)
    hands = open_devices(gamepad, settings.daemon.operator) if operator else nullcontext(())
    with hands as devices, StopSignal() as stopped:
        for device in devices:
            on_line(device.help)
        with Wheel(out, cycles, seed, settings, watcher, stopped, devices) as wheel:
            result = wheel.turn()
    result |= {**wheel.world, "bundle": settings.model.bundle, "run": out}
    table("flywheel", ("what", "value"), _summary(result))
    write_json(json, result)
    if stopped():
        raise typer.Exit(130)


def _told(row: Mapping[str, Any]) -> str:
    """A finished stage in one line."""
    left_out = ("cycle", "verb", "seconds", "rows")
    shown = {name: value for name, value in row.items() if name not in left_out and value is not None}
    said = "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items()
    )
    return f"{row['cycle']}/{row['verb']} ({row['seconds']:.0f} s): {said}"


def _summary(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Before, one adapter, all, and what it cost."""

    def success(figures: Mapping[str, Any] | None) -> str:
        if figures is None:
            return "not reached"
        low, high = figures["ci95"]
        return f"{figures['successes']} of {figures['episodes']} ({100 * low:.0f} to {100 * high:.0f} %)"

    rows = [(name, success(result[name])) for name in ("before", "one_shot", "loop")]
    after = result["after"]
    if after is not None and after["points"] is not None:
        rows += [("fresh seeds, base", success(after["base"])), ("fresh seeds, last", success(after["last"]))]
        rows.append(("difference", f"{after['points']:+.1f} points (McNemar p {after['mcnemar_p']:.2g})"))
    if result["forgetting_points"] is not None:
        rows.append(("forgotten where nothing is shifted", f"{result['forgetting_points']:+.1f} points"))
    rows += [("learning episodes", str(result["episodes"])), ("wall minutes", f"{result['wall_minutes']:.1f}")]
    adapters = result["adapters"]
    return [*rows, ("adapters", f"{adapters['learned']} learned, {adapters['served']} served, {adapters['refused']}")]
