"""`flexor collect`: the oracle's demonstrations as episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.cli.shift_view import ShiftAxes, ShiftLevel


def collect(
    out: Annotated[Path, typer.Option("--out", help="Folder of the episodes; what it holds already is kept.")],
    sim: Annotated[str, typer.Option(help="Simulator: tabletop, or a LIBERO suite, e.g. libero_spatial.")] = "tabletop",
    tasks: Annotated[
        str | None, typer.Option(help="Task names (LIBERO: or numbers), comma-separated; by default all of them.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many to record; seeds count up, tasks take turns.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="First seed; from 10000 up they are kept for acceptance.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="In the scene of each task, what else can be asked for there.")
    ] = False,
    shift: ShiftLevel = "none",
    shift_axes: ShiftAxes = "",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings, see configs/collect.yaml.")] = None,
    json_file: JsonFile = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as a.b=c.")] = None,
) -> None:
    """Record the oracle's demonstrations as episodes, disturbed so that they show the way back.

    Seeds that are already recorded are skipped, so a stopped recording goes on when the command is given again.

    Example: flexor collect --out data/tabletop --episodes 200 disturbance.noise_high=0.4

    Example: flexor collect --sim libero_spatial --counterfactual --out data/libero --episodes 250

    Example, where a policy drives in turns and the oracle says what it should have done (DAgger):
    flexor collect --out data/tabletop --episodes 200 --seed 3000 pilot.bundle=pi05-nano
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.runtime.metrics import wilson
    from flexor.settings import load_settings
    from flexor.sim.collect import CollectSettings, Demonstration
    from flexor.sim.collect import collect as record
    from flexor.sim.libero.suites import find_suite
    from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
    from flexor.sim.shift import Shift

    robot = sim_robot(sim, (*EMBEDDED, *LIBERO))
    settings = load_settings(CollectSettings, config, overrides or [])
    workplace = Shift.parse(shift, shift_axes, sim)
    chosen = [name.strip() for name in tasks.split(",") if name.strip()] if tasks else []
    if sim in LIBERO:
        chosen = [find_suite(sim).find(name).name for name in chosen]
    done: list[Demonstration] = []
    with Progress() as progress:

        def told(demonstration: Demonstration, missing: int) -> None:
            done.append(demonstration)
            progress.update(f"recording into {out}", len(done), missing, f"{len(done)} of {missing}")

        record(out, robot, episodes, seed, workers, settings, told, workplace, chosen, counterfactual)
    successes = sum(d.success for d in done)
    rate, low, high = wilson(successes, len(done)) if done else (0.0, 0.0, 1.0)
    skipped = episodes - len(done)
    table(
        "demonstrations",
        ("recorded", "skipped", "success", "95 %", "steps each"),
        [(len(done), skipped, rate, f"{low:.3f}-{high:.3f}", sum(d.steps for d in done) / max(1, len(done)))],
    )
    write_json(
        json_file,
        {
            "episodes": len(done),
            "skipped": skipped,
            "successes": successes,
            "success_rate": rate,
            "ci95": [low, high],
            "seed": seed,
            "out": out,
            "counterfactual": counterfactual,
            "shift": workplace.to_dict(),
        },
    )
