"""The --shift options of every command that simulates, and what a shift comes to in the episodes of a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flexor.sim.shift import Shift

ShiftLevel = Annotated[
    str, typer.Option("--shift", metavar="LEVEL", help="Domain shift: none, low, medium or high (docs/shift.md).")
]
ShiftAxes = Annotated[
    str, typer.Option("--shift-axes", metavar="A,B", help="Only these axes of the shift; by default all of them.")
]


def preview(shift: Shift, tasks: Sequence[str], episodes: int, seed: int, skip: int) -> list[dict[str, Any]]:
    """What the episodes of `flexor eval` would be: episode, seed, task, scene, sentence, and the shift's draw.

    Raises:
        TaskError: a task that there is not.
    """
    from flexor.sim.layout import draw_layout
    from flexor.sim.scenes import SCENES
    from flexor.sim.sentences import spoken
    from flexor.sim.shift_draw import draw_shift
    from flexor.sim.tabletop import find_task
    from flexor.sim.tasks import TASKS

    names = list(tasks) or list(TASKS)
    rows = []
    for index in range(skip, episodes):
        task = find_task(names[index % len(names)])
        scene = SCENES[task.scene]
        drawn = draw_shift(shift, scene, seed + index, draw_layout(scene, seed + index))
        rows.append(
            {
                "episode": index,
                "seed": seed + index,
                "task": task.name,
                "scene": scene.name,
                "sentence": spoken(task, drawn),
                "drawn": drawn.to_dict(),
            }
        )
    return rows


def print_preview(shift: Shift, rows: Sequence[dict[str, Any]]) -> None:
    """One row an episode: its sentence, and for each axis how far its dials are turned."""
    from flexor.cli.report import table
    from flexor.sim.shift_table import DIALS

    dials = [dial for dial in DIALS if shift.acts_on(dial.axis)]
    axes = list(dict.fromkeys(dial.axis for dial in dials))
    cells = [
        (
            row["seed"],
            f"{row['task']}: {row['sentence']}",
            "\n".join(
                _line(axis, {dial.name: row["drawn"][dial.name] for dial in dials if dial.axis == axis})
                for axis in axes
            ),
        )
        for row in rows
    ]
    table(f"shift {shift.level}, nothing is played", ("seed", "task and sentence", "drawn"), cells)


def _line(axis: str, drawn: dict[str, Any]) -> str:
    return f"{axis}: " + ", ".join(f"{name} {_short(value)}" for name, value in drawn.items())


def _short(value: float | Sequence[float]) -> str:
    numbers = (value,) if isinstance(value, float | int) else value
    return " ".join(f"{number:+.2g}" for number in numbers)
