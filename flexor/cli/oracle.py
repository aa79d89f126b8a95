"""`flexor oracle`: the scripted expert's own success."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flexor.cli.report import JsonFile
from flexor.cli.shift_view import ShiftAxes, ShiftLevel

EPISODES = 200


def oracle(
    sim: Annotated[
        str, typer.Option(help="Simulator: tabletop, libero_spatial, _object, _goal, _10, _long (the same) or _90.")
    ] = "tabletop",
    tasks: Annotated[
        str, typer.Option(help="Task names with commas between (LIBERO: or numbers, or OTHER@TASK); all by default.")
    ] = "",
    episodes: Annotated[
        int | None, typer.Option(min=1, help=f"tabletop: how many attempts, tasks in turn; {EPISODES}.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="LIBERO: attempts at each task, from as many official states; 50.")
    ] = None,
    sampled: Annotated[
        bool, typer.Option("--sampled", help="LIBERO: from placements drawn with --seed instead of official states.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="First seed; from 10000 up they are kept for acceptance.")] = 5000,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first so many of the attempts.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    shift: ShiftLevel = "none",
    shift_axes: ShiftAxes = "",
    json_file: JsonFile = None,
) -> None:
    """Measure the scripted oracle's own success: the ceiling for what is learned from it.

    Example: flexor oracle --sim tabletop --episodes 200 --seed 5000

    Example: flexor oracle --sim libero_spatial --trials 50 --workers 2 --json spatial.json
    """
    from flexor.cli.progress import Progress
    from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
    from flexor.sim.shift import Shift
    from flexor.sim.tasks import TASKS
    from flexor.sim.trial import Trial, try_oracle

    sim_robot(sim, (*EMBEDDED, *LIBERO))
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if sim in LIBERO:
        if episodes is not None or skip or shift != "none" or shift_axes:
            raise typer.BadParameter("LIBERO's attempts are told by --trials, --seed and --tasks alone")
        _libero(sim, names, trials, sampled, seed, workers, json_file)
        return
    if trials is not None or sampled:
        raise typer.BadParameter(f"is for LIBERO's suites, not for {sim}", param_hint="--trials, --sampled")
    total = episodes or EPISODES
    if skip >= total:
        raise typer.BadParameter(f"{skip} of {total} attempts leaves none; give 0 to {total - 1}", param_hint="--skip")
    workplace = Shift.parse(shift, shift_axes)
    names = names or list(TASKS)
    successes: list[bool] = []
    with Progress() as progress:

        def told(trial: Trial) -> None:
            successes.append(trial.success)
            progress.update("oracle", len(successes), total - skip, f"{sum(successes)} of {len(successes)} succeeded")

        played = try_oracle(names, total, seed, workers, told, skip, workplace)
    title = f"oracle on {sim}, shift {shift}"
    told_of = {"seed": seed, "sim": sim, "shift": workplace.to_dict(), "rows": [asdict(trial) for trial in played]}
    _report(title, played, told_of, json_file)


def _libero(
    sim: str, names: list[str], trials: int | None, sampled: bool, seed: int, workers: int, json_file: Path | None
) -> None:
    from flexor.cli.progress import Progress
    from flexor.sim.libero.assets import prepare
    from flexor.sim.libero.attempts import Attempt, try_expert
    from flexor.sim.libero.protocol import OFFICIAL_STARTS
    from flexor.sim.libero.suites import find_suite
    from flexor.sim.trial import Trial

    each = trials or OFFICIAL_STARTS
    if not sampled and each > OFFICIAL_STARTS:
        raise typer.BadParameter(f"{each} is more than LIBERO's {OFFICIAL_STARTS} states", param_hint="--trials")
    assets, suite = prepare(), find_suite(sim)
    total = each * len(names or suite.tasks)
    successes: list[bool] = []
    with Progress() as progress:

        def told(attempt: Attempt) -> None:
            successes.append(attempt.success)
            progress.update("oracle", len(successes), total, f"{sum(successes)} of {len(successes)} succeeded")

        starts, first = ("sampled", seed) if sampled else ("official", 0)
        played = try_expert(suite.name, names, each, workers, told, first, starts)
    told_of: dict[str, Any] = {
        "sim": suite.name,
        "starts": starts,
        "seed": seed if sampled else None,
        **assets.to_dict(),
        "rows": [asdict(attempt) for attempt in played],
    }
    title = f"oracle on {suite.name}, {starts} starts"
    _report(title, [Trial(row.task, row.trial, row.success, row.steps) for row in played], told_of, json_file)


def _report(title: str, played: list[Any], told_of: dict[str, Any], json_file: Path | None) -> None:
    """The table of every task and of all, and the same as JSON with `told_of`."""
    from flexor.cli.report import table, write_json
    from flexor.sim.trial import summary

    names = list(dict.fromkeys(trial.task for trial in played))
    groups = {name: [trial for trial in played if trial.task == name] for name in names} | {"all": played}
    rows = {name: summary(group) for name, group in groups.items()}
    table(
        title,
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
    tasks = {name: row for name, row in rows.items() if name != "all"}
    write_json(json_file, {**rows["all"], "tasks": tasks, **told_of})
