"""`flexor oracle`: the scripted expert's own success."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.cli.shift_view import ShiftAxes, ShiftLevel


def oracle(
    sim: Annotated[str, typer.Option(help="Simulator: tabletop.")] = "tabletop",
    tasks: Annotated[str, typer.Option(help="Task names with commas between; all by default.")] = "",
    episodes: Annotated[int, typer.Option(min=1, help="How many attempts, tasks in turn.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="First seed; from 10000 up they are kept for acceptance.")] = 5000,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first so many of the attempts.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    shift: ShiftLevel = "none",
    shift_axes: ShiftAxes = "",
    json_file: JsonFile = None,
) -> None:
    """Measure the scripted oracle's own success: the ceiling for what is learned from it.

    Example: flexor oracle --sim tabletop --episodes 200 --seed 5000
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.sim.robots import sim_robot
    from flexor.sim.shift import Shift
    from flexor.sim.tasks import TASKS
    from flexor.sim.trial import Trial, summary, try_oracle

    if skip >= episodes:
        raise typer.BadParameter(
            f"{skip} of {episodes} attempts leaves none; give 0 to {episodes - 1}", param_hint="--skip"
        )
    sim_robot(sim)
    workplace = Shift.parse(shift, shift_axes)
    names = [name.strip() for name in tasks.split(",")] if tasks else list(TASKS)
    successes: list[bool] = []
    with Progress() as progress:

        def told(trial: Trial) -> None:
            successes.append(trial.success)
            progress.update(
                "oracle", len(successes), episodes - skip, f"{sum(successes)} of {len(successes)} succeeded"
            )

        trials = try_oracle(names, episodes, seed, workers, told, skip, workplace)
    groups = {name: [t for t in trials if t.task == name] for name in names} | {"all": trials}
    rows = {name: summary(group) for name, group in groups.items() if group}
    table(
        f"oracle on {sim}, shift {shift}",
        ("task", "episodes", "success", "95 %", "steps"),
        [
            (
                name,
                row["episodes"],
                row["success_rate"],
                f"{row['ci95'][0]:.3f}-{row['ci95'][1]:.3f}",
                row["steps_mean"],
            )
            for name, row in rows.items()
        ],
    )
    write_json(
        json_file,
        {
            **rows["all"],
            "tasks": {n: r for n, r in rows.items() if n != "all"},
            "seed": seed,
            "sim": sim,
            "shift": workplace.to_dict(),
            "rows": [asdict(trial) for trial in trials],
        },
    )
