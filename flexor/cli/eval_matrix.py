"""`flexor eval --matrix`: several bundles on the same tasks, as stages of a stream of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from flexor.flywheel.evaluate_matrix import Play
    from flexor.flywheel.success_matrix import SuccessMatrix

NOT_OF_THE_STREAM = "-"


def open_matrix(
    bundles: Sequence[str], sim: str, tasks: Sequence[str], after: str | None, trials: int
) -> SuccessMatrix:
    """An empty matrix, a stage a bundle. Each bundle is opened now, so that a bad one is told before hours of others.

    Args:
        tasks: names, in the order in which the stream learns them.
        after: comma-separated, a task for each bundle (LIBERO: or its number), or - for a bundle that is not of the
            stream. None takes the tasks in turn when there are as many bundles as tasks, and no stream otherwise.

    Raises:
        FlexorError: an unknown task, two bundles after the same one, or a bundle that cannot be opened.
    """
    from flexor.flywheel.success_matrix import Stage, SuccessMatrix
    from flexor.runtime.inference.bundle import Bundle
    from flexor.sim.libero.suites import find_suite
    from flexor.sim.robots import LIBERO

    learned: list[str | None]
    if after is None:
        learned = list(tasks) if len(bundles) == len(tasks) else [None] * len(bundles)
    else:
        words = [word.strip() for word in after.split(",")]
        if len(words) != len(bundles):
            told = f"names {len(words)} tasks for {len(bundles)} bundles; expected one for each, - for none"
            raise typer.BadParameter(told, param_hint="--after")
        named = (lambda word: find_suite(sim).find(word).name) if sim in LIBERO else str
        learned = [None if word == NOT_OF_THE_STREAM else named(word) for word in words]
    stages = [
        Stage(bundle=bundle, bundle_hash=Bundle.open(bundle).hash, after=task)
        for bundle, task in zip(bundles, learned, strict=True)
    ]
    return SuccessMatrix(tuple(tasks), stages, trials)


def play_matrix(matrix: SuccessMatrix, play: Play, sim: str, json: Path | None) -> None:
    """Play it, and tell what there is of it, also when something ends it before.

    With --json FILE, the file is written after every stage.

    Raises:
        FlexorError: as `evaluate` does.
    """
    from flexor.cli.matrix_view import print_matrix
    from flexor.cli.progress import Progress
    from flexor.cli.report import STANDARD_OUTPUT, console, write_json
    from flexor.errors import FlexorError
    from flexor.flywheel.evaluate_matrix import evaluate_matrix

    wanted = (matrix.trials or 1) * len(matrix.tasks)
    file = None if str(json) == STANDARD_OUTPUT else json
    try:
        with Progress() as progress:

            def on_episode(stage: int, row: dict[str, Any]) -> None:
                played, successes = (sum(count[which] for count in matrix.counts[stage]) for which in (1, 0))
                what = f"stage {stage + 1} of {len(matrix.stages)}, {matrix.stages[stage].name}"
                progress.update(what, played, wanted, f"{successes} of {played} succeeded")

            result = evaluate_matrix(matrix, play, on_episode, lambda result: write_json(file, result))
    except (KeyboardInterrupt, FlexorError):
        if any(count[1] for row in matrix.counts for count in row):
            print_matrix(matrix, f"{sim}, stopped")
            console.print("what was played is kept; the same command goes on from there")
        raise
    print_matrix(matrix, f"{sim}, reduced assets" if result.get("reduced_assets") else sim)
    for run in result["runs"]:
        for death in run["worker_deaths"]:
            console.print(f"played again: {death}", highlight=False, markup=False)
    write_json(json, result)
