"""`flexor cl`: continual learning, a stream of tasks one after another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flexor.cli.report import JsonFile

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Continual learning: a stream of tasks.")


@app.callback()
def cl() -> None:
    """Continual learning: a stream of tasks."""


@app.command(epilog="Example: flexor cl metrics runs/stream.json --plot runs/stream.png")
def metrics(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A matrix that flexor eval --matrix --json wrote.")],
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a PNG of the matrix here.")] = None,
    json: JsonFile = None,
) -> None:
    """Tell ASR, BWT, NBT, F and AUC of a success matrix, with 95 % intervals; docs/matrix.md defines them.

    Of a matrix that is not complete, tells what can be computed and what is missing for the rest.
    """
    from flexor.cli.matrix_view import metrics_result, print_matrix
    from flexor.cli.report import write_json
    from flexor.flywheel.matrix_plot import write_matrix_plot
    from flexor.flywheel.success_matrix import SuccessMatrix

    matrix = SuccessMatrix.load(file)
    print_matrix(matrix, file.name)
    if plot is not None:
        write_matrix_plot(matrix, plot)
    write_json(json, metrics_result(matrix))
