"""The --shift options of every command that simulates, and what a shift comes to in the episodes of a measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def preview(
    shift: Shift, sim: str, tasks: Sequence[str], episodes: int, seed: int, skip: int, *, each: bool = False
) -> list[dict[str, Any]]:
    """What the episodes of `flexor eval` would be: episode, seed, task, scene, sentence, and the shift's draw.

    No simulator is built: what is found only once a scene stands is not told. In LIBERO that is how much of a move is
    left where objects would collide, and where distractors lie.

    Args:
        sim: as open_robot takes it.
        each: `episodes` are those of each task.

    Raises:
        FlexorError: a task that there is not, or LIBERO is not installed.
    """
    told = _tabletop_episode if sim == "sim:tabletop" else _libero_episode(sim)
    names = list(tasks) or _all_tasks(sim)
    if each:
        pairs = [(task, seed + trial) for task in names for trial in range(episodes)]
    else:
        pairs = [(names[index % len(names)], seed + index) for index in range(episodes)]
    rows = [{"episode": index, "seed": own, **told(shift, task, own)} for index, (task, own) in enumerate(pairs)]
    return rows[skip:]


def _all_tasks(sim: str) -> list[str]:
    from flexor.sim.libero.suites import find_suite
    from flexor.sim.tasks import TASKS

    if sim == "sim:tabletop":
        return list(TASKS)
    return [task.name for task in find_suite(sim.removeprefix("sim:")).tasks]


def _tabletop_episode(shift: Shift, name: str, seed: int) -> dict[str, Any]:
    from flexor.sim.layout import draw_layout
    from flexor.sim.scenes import SCENES
    from flexor.sim.sentences import spoken
    from flexor.sim.shift_draw import draw_shift
    from flexor.sim.tabletop import find_task

    task = find_task(name)
    scene = SCENES[task.scene]
    drawn = draw_shift(shift, scene, seed, draw_layout(scene, seed))
    return {"task": task.name, "scene": scene.name, "sentence": spoken(task, drawn), "drawn": drawn.to_dict()}


def _libero_episode(sim: str) -> Callable[[Shift, str, int], dict[str, Any]]:
    from flexor.sim.libero.shift.draw import draw_libero_shift
    from flexor.sim.libero.suites import find_suite

    suite = find_suite(sim.removeprefix("sim:"))

    def told(shift: Shift, name: str, seed: int) -> dict[str, Any]:
        task = suite.find(name)
        drawn = draw_libero_shift(shift, task, seed)
        said = drawn.sentence or task.sentence
        return {"task": task.name, "scene": suite.name, "sentence": said, "drawn": drawn.to_dict()}

    return told


def print_preview(shift: Shift, rows: Sequence[dict[str, Any]]) -> None:
    """One row an episode: its sentence, and for each axis how far its dials are turned."""
    from flexor.cli.report import table
    from flexor.sim.libero.shift.table import LIBERO_DIALS
    from flexor.sim.shift_table import DIALS

    dials = [dial for dial in (DIALS if shift.world == "tabletop" else LIBERO_DIALS) if shift.acts_on(dial.axis)]
    axes = list(dict.fromkeys(dial.axis for dial in dials))
    cells = [
        (
            row["seed"],
            f"{row['task']}: {row['sentence']}",
            "\n".join(_line(axis, row["drawn"], [dial.name for dial in dials if dial.axis == axis]) for axis in axes),
        )
        for row in rows
    ]
    table(f"shift {shift.level}, nothing is played", ("seed", "task and sentence", "drawn"), cells)


ALSO_TOLD = {
    "texture": ("textures",),
    "distractors": ("distractors",),
    "sensor_noise": ("blur",),
}
"""What is told of an axis besides its dials, where the draw has it."""


def _line(axis: str, drawn: Mapping[str, Any], dials: Sequence[str]) -> str:
    told = [f"{name} {_short(drawn[name])}" for name in dials]
    told += [_more(drawn[name]) for name in ALSO_TOLD.get(axis, ()) if drawn.get(name)]
    return f"{axis}: " + ", ".join(told)


def _more(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {file}" for name, file in value.items())
    if isinstance(value, str):
        return value
    return "things " + " ".join(str(thing["thing"]) for thing in value)


def _short(value: float | Sequence[float] | Mapping[str, Sequence[float]]) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_short(numbers)}" for name, numbers in value.items())
    numbers = (value,) if isinstance(value, float | int) else value
    return " ".join(f"{number:+.2g}" for number in numbers)
