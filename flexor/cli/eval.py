"""`flexor eval`: success of a bundle in simulation, in lockstep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flexor.cli.report import JsonFile
from flexor.cli.shift_view import ShiftAxes, ShiftLevel
from flexor.runtime.inference.precisions import CHOICES

EPISODES = 40
KEEP = Path("runs", "eval")


def eval_(
    bundles: Annotated[
        list[str],
        typer.Argument(metavar="BUNDLE", help="Folder of a bundle, or the name of one that ships; --matrix: several."),
    ],
    sim: Annotated[
        str, typer.Option(help="Simulator: tabletop, libero_spatial, _object, _goal, _10, _long (the same) or _90.")
    ] = "tabletop",
    tasks: Annotated[
        str | None, typer.Option(help="Task names (LIBERO: or numbers), comma-separated; by default all of them.")
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help=f"Episodes in all, tasks in turn; tabletop: {EPISODES}. LIBERO: placements by seed."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Episodes a task. LIBERO: its official initial states; by default the protocol's."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; 5000 to 9999 are for this.")] = 5000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on it.")] = 1,
    protocol: Annotated[str | None, typer.Option(help="LIBERO: whose evaluation, openpi (default) or lerobot.")] = None,
    render: Annotated[
        str | None, typer.Option(help="LIBERO: official or fast frames; by default as the bundle was trained.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help=f"Of the engine, the bundle's own if not given: {CHOICES}")
    ] = None,
    flow_steps: Annotated[
        int | None, typer.Option(min=1, help="Euler steps of the flow; the bundle's own if not given.")
    ] = None,
    noise_scale: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of the noise that a chunk starts from; the bundle's own if not given."),
    ] = None,
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
    log: Annotated[
        Path | None, typer.Option(help="Record the episodes in this folder: all of them, those that were kept as well.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=f"Keep what was played here, and go on from it; LIBERO: {KEEP}, tabletop: nowhere."
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what was kept of this evaluation.")] = False,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Success of each bundle on each task, as stages of a stream of --tasks.")
    ] = False,
    after: Annotated[
        str | None,
        typer.Option(help="--matrix: the task that each bundle learned last, or -; by default the tasks in turn."),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate", help="Play also in fp32, and keep in the bundle whether --precision, or graphs, do as well."
        ),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            help="--gate of exported graphs: the bundle that they are of, where it does not ship with flexor."
        ),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Measure the success of a bundle in simulation.

    The simulation waits for the policy and every random number follows from the seed: the same command gives the
    same result. On LIBERO an evaluation that was stopped goes on where it was when the command is given again.

    --gate keeps its verdict in BUNDLE/gates/PRECISION.json; exit code 3 when it failed. Exported graphs are compared
    with the weights that they were made from, and are to lose fewer than 3 points, a precision fewer than 5.

    Example: flexor eval pi05-nano --sim tabletop --episodes 200 --seed 5000 --workers 2

    Example: flexor eval BUNDLE --sim libero_spatial --trials 50 --workers 2

    Example: flexor eval BUNDLE --precision int8 --gate --episodes 200

    Example: flexor eval runs/nano-int8 --gate --episodes 500 --workers 2

    Example: flexor eval AFTER_1 AFTER_2 AFTER_3 --matrix --sim libero_goal --tasks 4,0,7 --trials 20 --json matrix.json
    """
    from flexor.cli.eval_gate import EPISODES as GATE_EPISODES
    from flexor.cli.eval_gate import gated_precision, play_gate
    from flexor.cli.eval_matrix import open_matrix, play_matrix
    from flexor.cli.eval_view import libero_terms, print_evaluation
    from flexor.cli.progress import Progress
    from flexor.cli.report import write_json
    from flexor.cli.shift_view import preview, print_preview
    from flexor.flywheel.evaluate import evaluate, open_policy, open_simulation
    from flexor.flywheel.lockstep import Delay, Manner
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.calibration import Calibration
    from flexor.sim.libero.protocol import OFFICIAL_STARTS
    from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
    from flexor.sim.shift import Shift
    from flexor.sim.tasks import TASKS

    if splice not in ("replan", "prefix"):
        raise typer.BadParameter(f"{splice!r} is neither replan nor prefix", param_hint="--splice")
    if len(bundles) > 1 and not matrix:
        raise typer.BadParameter(f"names {len(bundles)} bundles; several need --matrix", param_hint="BUNDLE")
    if after is not None and not matrix:
        raise typer.BadParameter("says where bundles stand in a stream of tasks: add --matrix", param_hint="--after")
    if matrix and counterfactual:
        raise typer.BadParameter("is of the tasks as they are: drop --counterfactual", param_hint="--matrix")
    if gate and (matrix or counterfactual or skip or shift != "none"):
        raise typer.BadParameter(
            "is of the tasks as they are: drop --matrix, --counterfactual, --skip and --shift", param_hint="--gate"
        )
    if gate and (flow_steps is not None or noise_scale is not None):
        raise typer.BadParameter(
            "is of the bundle as it is served: drop --flow-steps and --noise-scale", param_hint="--gate"
        )
    if source is not None and not gate:
        raise typer.BadParameter("is what graphs are compared with: add --gate", param_hint="--source")
    compared = gated_precision(bundles[0], precision) if gate else ""
    if episodes is not None and trials is not None:
        raise typer.BadParameter("is the number in all, --trials that of each task: give one", param_hint="--episodes")
    late = Delay(delay, splice)
    used = None if calibration is None else Calibration.load(calibration)
    robot = sim_robot(sim, (*EMBEDDED, *LIBERO))
    workplace = Shift.parse(shift, shift_axes, sim)
    chosen = [name.strip() for name in tasks.split(",") if name.strip()] if tasks else []
    libero, manner = None, Manner()
    if sim in LIBERO:
        terms = libero_terms(sim, bundles, chosen, protocol, render, sampled=episodes is not None)
        robot, chosen, libero, manner = f"sim:{terms.suite}", terms.tasks, terms.settings, terms.manner
        trials = None if episodes is not None else trials or terms.trials
        if trials is not None and trials > OFFICIAL_STARTS:
            raise typer.BadParameter(f"{trials} is more than LIBERO's {OFFICIAL_STARTS} states", param_hint="--trials")
        keep = keep or KEEP
    elif protocol is not None or render is not None:
        raise typer.BadParameter(f"is for LIBERO's suites, not for {sim}", param_hint="--protocol, --render")
    if matrix and trials is None:
        raise typer.BadParameter("needs --trials, the episodes of each bundle on each task", param_hint="--matrix")
    total = trials or episodes or (GATE_EPISODES if gate else EPISODES)
    if dry_run:
        if counterfactual:
            raise typer.BadParameter("is there without --counterfactual only", param_hint="--dry-run")
        coming = preview(workplace, robot, chosen, total, seed, skip, each=trials is not None)
        print_preview(workplace, coming)
        write_json(json, {"shift": workplace.to_dict(), "seed": seed, "sim": sim, "rows": coming})
        return
    evaluation = functools.partial(
        evaluate,
        sim=robot,
        tasks=chosen,
        episodes=total,
        seed=seed,
        workers=workers,
        log_dir=log,
        each=trials is not None,
        entropy=entropy,
        delay=late,
        manner=manner,
        counterfactual=counterfactual,
        calibration=used,
        skip=skip,
        keep=keep or KEEP if matrix or gate else keep,
        fresh=fresh,
        make_robot=functools.partial(open_simulation, shift=workplace, libero=libero),
    )

    def play(
        bundle: str, *, watch: Callable[[dict[str, Any]], None], precision: str | None = precision
    ) -> dict[str, Any]:
        computed = precision or Bundle.open(bundle).precision
        manners: dict[str, Any] = {"precision": computed, "flow_steps": flow_steps, "noise_scale": noise_scale}
        return evaluation(bundle, watch=watch, make_policy=functools.partial(open_policy, **manners), **manners)

    if matrix:
        return play_matrix(open_matrix(bundles, sim, chosen or list(TASKS), after, total), play, sim, json)
    planned = total - skip if trials is None else trials * len(chosen or TASKS)
    if gate:
        if not play_gate(bundles[0], play, compared, planned, json, source):
            raise typer.Exit(3)
        return
    played: list[bool] = []
    with Progress() as progress:

        def on_episode(row: dict[str, Any]) -> None:
            played.append(row["success"])
            note = f"{sum(played)} of {len(played)} succeeded"
            progress.update(f"evaluating {bundles[0]}", len(played), planned, note)

        result = play(bundles[0], watch=on_episode)
    print_evaluation(result)
    write_json(json, result)
