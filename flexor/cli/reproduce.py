"""`flexor reproduce`: LIBERO's four suites under a published protocol, beside the published numbers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.eval import KEEP
from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.flywheel.reproduction import Reproduction


def reproduce(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    protocol: Annotated[str, typer.Option(help="Whose evaluation and numbers: openpi or lerobot.")] = "openpi",
    trials: Annotated[
        int | None, typer.Option(min=1, max=50, help="Episodes a task; by default the protocol's.")
    ] = None,
    suites: Annotated[str, typer.Option(help="Some of the suites, comma-separated; by default all four.")] = "",
    tasks: Annotated[str, typer.Option(help="Numbers of tasks in each suite, to try it; by default 0 to 9.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the policy's noise; a multiple of 50.")] = 5000,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with a policy of its own.")] = 1,
    keep: Annotated[Path, typer.Option(metavar="DIR", help="Keep what was played here, and go on from it.")] = KEEP,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what was kept of these evaluations.")] = False,
    json: JsonFile = None,
) -> None:
    """Play the suites spatial, object, goal and 10 as openpi does, and show success beside the published numbers.

    Episodes are kept as they finish: a run that was stopped tells what there is, and the same command goes on from
    there. The rows are those of `flexor eval --no-entropy`.

    Example: flexor reproduce BUNDLE --trials 50 --workers 2 --json libero.json
    """
    from flexor.cli.eval_view import libero_terms
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, write_json
    from flexor.errors import FlexorError
    from flexor.flywheel.evaluate import evaluate, open_simulation
    from flexor.flywheel.reproduction import SUITES, Reproduction
    from flexor.runtime.inference.bundle import Bundle
    from flexor.sim.libero.assets import prepare
    from flexor.sim.libero.protocol import OFFICIAL_STARTS

    if seed % OFFICIAL_STARTS:
        raise typer.BadParameter(
            f"{seed} is no multiple of {OFFICIAL_STARTS}: trial 0 begins with state 0", param_hint="--seed"
        )
    chosen = _words(suites) or list(SUITES)
    terms = {suite: libero_terms(suite, [bundle], _words(tasks), protocol, None, sampled=False) for suite in chosen}
    first = next(iter(terms.values()))
    reproduction = Reproduction(
        protocol, chosen, len(first.tasks), trials or first.trials, prepare().to_dict(), first.settings.render
    )
    runs: list[dict[str, Any]] = []

    def tell() -> None:
        print_reproduction(bundle, reproduction)
        write_json(json, {"bundle": bundle, "seed": seed, **reproduction.to_dict(), "runs": runs})

    try:
        with Progress() as progress:
            for suite, its in terms.items():

                def on_episode(row: dict[str, Any], suite: str = suite) -> None:
                    reproduction.add(suite, row)
                    successes, played = reproduction.counts[suite]
                    progress.update(suite, played, reproduction.wanted, f"{successes} of {played} succeeded")

                result = evaluate(
                    bundle,
                    f"sim:{suite}",
                    its.tasks,
                    reproduction.trials,
                    seed,
                    workers,
                    each=True,
                    entropy=False,
                    manner=its.manner,
                    keep=keep,
                    fresh=fresh,
                    watch=on_episode,
                    make_robot=functools.partial(open_simulation, libero=its.settings),
                    precision=Bundle.open(bundle).precision,
                )
                kept = ("bundle_hash", "tasks", "worker_deaths", "rows_file")
                runs.append({"suite": suite, **{key: result[key] for key in kept}})
    except (KeyboardInterrupt, FlexorError):
        if any(played for _, played in reproduction.counts.values()):
            tell()
            console.print("stopped; what was played is kept, and the same command goes on from there")
        raise
    tell()


def print_reproduction(bundle: str, reproduction: Reproduction) -> None:
    """A row a suite and one for their mean, beside the published numbers; then the notes."""
    from flexor.cli.report import console, table

    told = reproduction.to_dict()
    mean = {**told, "suite": "mean", "wanted": reproduction.wanted * len(reproduction.counts)}
    rows = [
        (
            row["suite"].removeprefix("libero_"),
            f"{row['successes']} of {row['episodes']}" + _of(row),
            _percent(row["success_rate"]),
            _interval(row["ci95"]),
            _percent(row["published"]),
            _percent(row["difference"], sign="+"),
            _interval(row["difference_ci95"], sign="+"),
        )
        for row in (*told["suites"], mean)
    ]
    marked = ", reduced assets" if told.get("reduced_assets") else ""
    columns = ("suite", "success", "%", "95 %", "published", "points off", "95 %")
    table(f"{bundle} under {told['protocol']}'s protocol{marked}; published: {told['source']}", columns, rows)
    for note in told["notes"]:
        console.print(note, highlight=False, markup=False)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _of(row: dict[str, Any]) -> str:
    return "" if row["episodes"] == row["wanted"] else f" ({row['wanted']} wanted)"


def _percent(rate: float | None, sign: str = "") -> str:
    return "" if rate is None else f"{100 * rate:{sign}.2f}".removesuffix("0")


def _interval(ends: list[float] | None, sign: str = "") -> str:
    return "" if ends is None else f"{100 * ends[0]:{sign}.1f} to {100 * ends[1]:{sign}.1f}"
