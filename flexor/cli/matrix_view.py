"""How a success matrix and its figures are told: by `flexor eval --matrix` and by `flexor cl metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flexor.flywheel.success_matrix import SuccessMatrix
    from flexor.runtime.metrics import Figure


def print_matrix(matrix: SuccessMatrix, title: str) -> None:
    """A row a stage with its success on each task in percent, the names of the tasks, and the figures."""
    from flexor.cli.report import console, table

    numbers = range(1, len(matrix.tasks) + 1)
    rows = []
    for stage, counts in zip(matrix.stages, matrix.counts, strict=True):
        after = "" if stage.after is None else str(matrix.tasks.index(stage.after) + 1)
        rows.append((stage.name, after, *(_percent(s, n, matrix.trials) for s, n in counts)))
    table(f"{title}: success in percent by task", ("stage", "after task", *map(str, numbers)), rows)
    for number, task in zip(numbers, matrix.tasks, strict=True):
        console.print(f"{number:3} {task}", highlight=False, markup=False)
    print_figures(matrix)


def print_figures(matrix: SuccessMatrix) -> None:
    """A row a figure with its interval and which way its sign goes, what is missing for it, and the notes.

    Of stages that are not those of a stream, there are no figures.
    """
    from flexor.cli.report import console, table
    from flexor.runtime.metrics import STREAM_FIGURES

    if all(stage.after is None for stage in matrix.stages):
        return console.print("no stream, no ASR, BWT, NBT, F or AUC: --after says which task each bundle learned last")
    figures = matrix.figures()
    rows = []
    for name, meaning in STREAM_FIGURES.items():
        value, interval = figures[name].value, figures[name].ci95
        told = None if value is None else f"{100 * value:.1f}"
        between = None if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
        rows.append((name.upper(), told, between, meaning))
    table("the stream; percent, and points of percent", ("figure", "value", "95 %", "what it is"), rows)
    reasons: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if figure.value is None:
            reasons.setdefault("; ".join(_lacking(matrix, figure)), []).append(name.upper())
    for reason, names in reasons.items():
        console.print(f"{', '.join(names)}: {reason}", highlight=False, markup=False)
    for note in matrix.notes():
        console.print(note, highlight=False, markup=False)


def metrics_result(matrix: SuccessMatrix) -> dict[str, Any]:
    """The JSON of `flexor cl metrics`: rates and differences of rates, None where cells are missing."""
    figures = matrix.figures()
    return {
        **{name: figure.value for name, figure in figures.items()},
        "ci95": {name: figure.ci95 for name, figure in figures.items()},
        "missing": {name: _lacking(matrix, figure) for name, figure in figures.items() if figure.value is None},
        "notes": matrix.notes(),
        "tasks": matrix.tasks,
    }


def _lacking(matrix: SuccessMatrix, figure: Figure) -> list[str]:
    return matrix.missing(figure.missing) or ["a stream of one task has no such figure"]


def _percent(successes: int, episodes: int, trials: int | None) -> str:
    if not episodes:
        return ""
    partly = "" if trials is None or episodes >= trials else f" ({successes} of {episodes})"
    return f"{100 * successes / episodes:.0f}{partly}"
