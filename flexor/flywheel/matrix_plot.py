"""The picture of a success matrix: a row a stage, a column a task, the darker the more often it succeeds."""

from __future__ import annotations

from pathlib import Path

from flexor.errors import FlexorError
from flexor.flywheel.success_matrix import SuccessMatrix

CELL_INCHES = 0.55
DARK = 60.0  # percent; numbers on cells above this are white


def write_matrix_plot(matrix: SuccessMatrix, path: Path) -> None:
    """Write a PNG. Success in percent stands in each cell; cells without an episode are empty, and the cell of the
    task that a stage has just learned has a frame.

    Raises:
        FlexorError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise FlexorError(f"a plot needs matplotlib ({error}); install it with `pip install 'flexor[plot]'`") from error
    rows, columns = len(matrix.stages), len(matrix.tasks)
    figure = Figure(figsize=(3.2 + CELL_INCHES * columns, 2.4 + CELL_INCHES * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rates = [[100 * successes / n if n else float("nan") for successes, n in row] for row in matrix.counts]
    picture = axes.imshow(rates, vmin=0, vmax=100, cmap="Blues")
    for s, (stage, row) in enumerate(zip(matrix.stages, rates, strict=True)):
        for i, rate in enumerate(row):
            if rate == rate:  # not NaN
                colour = "white" if rate > DARK else "black"
                axes.text(i, s, f"{rate:.0f}", ha="center", va="center", color=colour, fontsize=9)
        if stage.after is not None:
            place = (matrix.tasks.index(stage.after) - 0.5, s - 0.5)
            axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="tab:orange", linewidth=1.6))
    names = [task if len(task) <= 40 else f"{task[:37]}..." for task in matrix.tasks]
    labels = [f"{i + 1} {name}" for i, name in enumerate(names)]
    axes.set_xticks(range(columns), labels, rotation=40, ha="right", fontsize=7)
    stages = [stage.name if stage.after is None else f"{stage.name}, after {_number(matrix, stage.after)}"
              for stage in matrix.stages]  # fmt: skip
    axes.set_yticks(range(rows), stages, fontsize=8)
    axes.set(xlabel="task", ylabel="stage", title="success, %")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise FlexorError(f"cannot write the plot to {path}: {error}; choose another file") from error


def _number(matrix: SuccessMatrix, task: str) -> int:
    return matrix.tasks.index(task) + 1
