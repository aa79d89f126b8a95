"""`flexor eval`: success of a bundle in simulation, in lockstep."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from flexor.cli.report import JsonFile
from flexor.cli.shift_view import ShiftAxes, ShiftLevel


def eval_(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    sim: Annotated[str, typer.Option(help="Simulator: tabletop.")] = "tabletop",
    tasks: Annotated[str | None, typer.Option(help="Task names, comma-separated; by default all of them.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes in all; the tasks take turns.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; 5000 to 9999 are for this.")] = 5000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on it.")] = 1,
    entropy: Annotated[bool, typer.Option(help="Score every chunk; 8 more samples each.")] = True,
    delay: Annotated[int, typer.Option(min=0, help="Control steps by which chunks come late, as in real time.")] = 0,
    splice: Annotated[str, typer.Option(help="How late chunks continue: prefix (RTC), or replan.")] = "prefix",
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="Ask for another task that is possible in the same scene.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Calibration of the entropy, made of episodes of eval itself.")
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first so many of the episodes.")] = 0,
    shift: ShiftLevel = "none",
    shift_axes: ShiftAxes = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Play nothing; tell what the shift comes to in each episode.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Record the episodes in this folder.")] = None,
    json: JsonFile = None,
) -> None:
    """Measure the success of a bundle in simulation.

    The simulation waits for the policy and every random number follows from the seed: the same command gives the
    same result.

    Example: flexor eval pi05-nano --sim tabletop --episodes 200 --seed 5000 --workers 2
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.cli.shift_view import preview, print_preview
    from flexor.flywheel.evaluate import evaluate, open_simulation
    from flexor.flywheel.lockstep import Delay
    from flexor.runtime.inference.calibration import Calibration
    from flexor.sim.robots import sim_robot
    from flexor.sim.shift import Shift

    if splice not in ("replan", "prefix"):
        raise typer.BadParameter(f"{splice!r} is neither replan nor prefix", param_hint="--splice")
    late = Delay(delay, splice)
    used = None if calibration is None else Calibration.load(calibration)
    robot = sim_robot(sim)
    workplace = Shift.parse(shift, shift_axes)
    chosen = [name.strip() for name in tasks.split(",") if name.strip()] if tasks else []
    if dry_run:
        if counterfactual:
            raise typer.BadParameter("cannot be told together with --counterfactual", param_hint="--dry-run")
        coming = preview(workplace, chosen, episodes, seed, skip)
        print_preview(workplace, coming)
        write_json(json, {"shift": workplace.to_dict(), "seed": seed, "sim": sim, "rows": coming})
        return
    played: list[bool] = []
    with Progress() as progress:

        def on_episode(row: dict[str, Any]) -> None:
            played.append(row["success"])
            progress.update(
                f"evaluating {bundle}", len(played), episodes - skip, f"{sum(played)} of {len(played)} succeeded"
            )

        result = evaluate(
            bundle,
            robot,
            chosen,
            episodes,
            seed,
            workers,
            log,
            entropy=entropy,
            delay=late,
            counterfactual=counterfactual,
            calibration=used,
            skip=skip,
            watch=on_episode,
            make_robot=functools.partial(open_simulation, shift=workplace),
        )
    rows = [(row["task"], *_cells(row)) for row in result["tasks"]] + [("all", *_cells(result))]
    table(f"{bundle} in {sim}, shift {shift}", ("task", "success", "rate", "95 %", "entropy, bits"), rows)
    if result["failure_labels"]:
        failures = ", ".join(f"{label} {count}" for label, count in result["failure_labels"].items())
        console.print(f"failures by label: {failures}")
    if counterfactual:
        original = result["original"]
        low, high = original["ci95"]
        console.print(
            f"the original task, not asked for, was solved in {original['successes']} of {original['episodes']}"
            f" episodes ({low:.3f}-{high:.3f})"
        )
    write_json(json, result)


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    low, high = row["ci95"]
    interval = "" if low is None else f"{low:.3f}-{high:.3f}"
    return f"{row['successes']} of {row['episodes']}", row["success_rate"], interval, row["entropy_bits_mean"]
