"""`flexor bench capacity`: what an adapter can learn of a changed world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.report import JsonFile
from flexor.cli.shift_view import ShiftAxes, ShiftLevel

if TYPE_CHECKING:
    from flexor.learner.lora.trainer import LoraStanding
    from flexor.sim.collect import Demonstration


def capacity(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings.")] = None,
    sim: Annotated[str, typer.Option(help="Simulator: tabletop, or a LIBERO suite.")] = "tabletop",
    shift: ShiftLevel = "medium",
    shift_axes: ShiftAxes = "",
    played: Annotated[
        str | None, typer.Option(help="Level that success is measured in; none for what was forgotten. As --shift.")
    ] = None,
    demonstrations: Annotated[int, typer.Option(min=10, help="Demonstrations of the changed world.")] = 60,
    replay: Annotated[
        int, typer.Option(min=0, help="Demonstrations of the world without a shift that are learned from, too.")
    ] = 0,
    profile: Annotated[
        str, typer.Option(help="What the adapter changes: expert, projector, keys, full.")
    ] = "projector",
    rank: Annotated[int, typer.Option(min=1, help="r; alpha is four times it.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 600,
    learn_seed: Annotated[int, typer.Option(min=0, help="Of the learner.")] = 0,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to play.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the first episode that is played.")] = 5000,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first so many of the episodes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that record and play.")] = 2,
    work: Annotated[Path, typer.Option(help="Recordings, prefixes and learned bundles.")] = Path("runs", "capacity"),
    json: JsonFile = None,
) -> None:
    """Record demonstrations in a changed world, learn an adapter from them, and play episodes of other seeds there.

    What was recorded and learned before is used again.

    Example: flexor bench capacity pi05-nano --shift medium --demonstrations 60 --steps 600
    """
    from flexor.cli.eval_view import print_evaluation
    from flexor.cli.progress import Progress
    from flexor.cli.report import write_json
    from flexor.flywheel.capacity import CapacityWatcher, World, measure_capacity
    from flexor.learner.lora.settings import LoraSettings
    from flexor.runtime.inference.bundle import Bundle
    from flexor.settings import load_settings
    from flexor.sim.robots import EMBEDDED, LIBERO, sim_robot
    from flexor.sim.shift import Shift

    robot = sim_robot(sim, (*EMBEDDED, *LIBERO))
    learned = Shift.parse(shift, shift_axes, sim)
    shown = learned if played is None else Shift.parse(played, shift_axes if played != "none" else "", sim)
    few = ["batch=8", "accumulation=1", "held_out=0.1"]  # one at a time is for large models
    asked = [f"profile={profile}", f"r={rank}", f"lora_alpha={4 * rank}", f"steps={steps}", f"seed={learn_seed}"]
    settings = load_settings(LoraSettings, None, [*few, *asked, *(overrides or [])])
    recorded: list[Demonstration] = []
    rows: list[bool] = []
    with Progress() as progress:

        def on_demonstration(demonstration: Demonstration, missing: int) -> None:
            recorded.append(demonstration)
            progress.update("recording", len(recorded), missing, f"{len(recorded)} of {missing}")

        def on_step(standing: LoraStanding) -> None:
            progress.update("learning", standing.spent, 1.0, f"step {standing.step}  loss {standing.loss:.3f}")

        def on_row(row: dict[str, Any]) -> None:
            rows.append(row["success"])
            progress.update("playing", len(rows), episodes - skip, f"{sum(rows)} of {len(rows)} succeeded")

        result = measure_capacity(
            Bundle.open(bundle),
            World(robot, learned, shown),
            demonstrations,
            settings,
            work,
            replay=replay,
            episodes=episodes,
            seed=seed,
            skip=skip,
            workers=workers,
            watcher=CapacityWatcher(on_demonstration, on_step, on_row),
        )
    print_evaluation(result)
    write_json(json, result)
