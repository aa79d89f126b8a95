"""SuccessMatrix: success of every stage of a stream of tasks on every task, and what follows from it (docs/matrix.md).

A stage is a policy: a bundle now, and one with an adapter when adapters are there; the file has a place for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flexor.errors import FlexorError
from flexor.runtime.metrics import Cell, Count, Figure, stream_figures, wilson

SCHEMA_VERSION = 1

_Whole = Annotated[int, Field(ge=0, strict=True)]


class MatrixError(FlexorError):
    """A success matrix that cannot be, or a file that holds none."""


class Stage(BaseModel):
    """A row: one policy.

    Attributes:
        bundle: as it was named on the command line.
        bundle_hash: of the bundle; None where nobody knows.
        adapter: as it was named; None is the bundle alone.
        adapter_hash: None with the adapter.
        after: the task that was learned last; None for a policy that is not one of the stream.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    bundle_hash: str | None = None
    adapter: str | None = None
    adapter_hash: str | None = None
    after: str | None = None

    @property
    def name(self) -> str:
        """What stands before its row."""
        return Path(self.bundle).name if self.adapter is None else f"{Path(self.bundle).name}+{Path(self.adapter).name}"


class Learning(BaseModel):
    """How often a task was solved while it was learned, an entry an evaluation, oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    successes: list[_Whole]
    episodes: list[_Whole]


class _File(BaseModel):
    """What is read of a matrix file; the rest of it says how it came about, or follows from this."""

    schema_version: _Whole
    tasks: Annotated[list[str], Field(min_length=1)]
    stages: Annotated[list[Stage], Field(min_length=1)]
    successes: list[list[_Whole]]
    episodes: list[list[_Whole]]
    trials: Annotated[int, Field(ge=1, strict=True)] | None = None
    learning: dict[str, Learning] = {}

    @model_validator(mode="after")
    def _shapes(self) -> _File:
        for name, rows in (("successes", self.successes), ("episodes", self.episodes)):
            shape = (len(rows), *sorted({len(row) for row in rows}))
            if shape != (len(self.stages), len(self.tasks)):
                raise ValueError(f"{name} has shape {shape}; expected (stages, tasks), {len(self.stages)} rows")
        if odd := [task for task, curve in self.learning.items() if len(curve.successes) != len(curve.episodes)]:
            raise ValueError(f"learning of {', '.join(odd)} has another number of successes than of episodes")
        return self


@dataclass(slots=True)
class SuccessMatrix:
    """Counts of successes and episodes by stage and task; an open cell counts 0 episodes.

    Attributes:
        tasks: names, in the order in which the stream learns them.
        stages: the rows, in any order.
        trials: episodes wanted in each cell; None when nobody said.
        counts: [successes, episodes] of each stage and task.
        learning: evaluations while a task was learned, by task; for AUC.
    """

    tasks: tuple[str, ...]
    stages: list[Stage]
    trials: int | None = None
    counts: list[list[list[int]]] = field(default_factory=list)
    learning: dict[str, Learning] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises MatrixError for a task named twice, a stage after an unknown task, or two after the same one."""
        self.counts = self.counts or [[[0, 0] for _ in self.tasks] for _ in self.stages]
        after = [stage.after for stage in self.stages if stage.after is not None]
        for what, names in (("tasks", self.tasks), ("stages after", after)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise MatrixError(f"{what} {', '.join(twice)} are there twice; expected each once")
        if unknown := sorted({*after, *self.learning} - {*self.tasks}):
            raise MatrixError(f"nothing is known of task {', '.join(unknown)}; the tasks are {', '.join(self.tasks)}")

    def add(self, stage: int, task: str, success: bool) -> None:
        """Count one episode."""
        count = self.counts[stage][self.tasks.index(task)]
        count[0], count[1] = count[0] + success, count[1] + 1

    def figures(self) -> dict[str, Figure]:
        """ASR, BWT, NBT, F and AUC (flexor.runtime.metrics.stream_figures), each None where cells are missing."""
        rows = {stage.after: row for stage, row in zip(self.stages, self.counts, strict=True)}
        matrix: dict[Cell, Count] = {
            (after, i): (row[0], row[1])
            for after, task in enumerate(self.tasks)
            for i, row in enumerate(rows.get(task, []))
        }
        return stream_figures(matrix, len(self.tasks), self._curves())

    def missing(self, cells: Sequence[Cell]) -> list[str]:
        """Cells that a figure lacks, in words, by stage."""
        there = {stage.after for stage in self.stages}
        told = []
        for after in sorted({after for after, _ in cells}):
            which = f"after task {after + 1}, {self.tasks[after]}"
            open_tasks = ", ".join(str(i + 1) for row, i in cells if row == after)
            played = self.tasks[after] in there
            told.append(f"the stage {which}, has no episode of task {open_tasks}" if played else f"no stage {which}")
        return told

    def notes(self) -> list[str]:
        """What to know before its figures are believed."""
        notes: list[str] = []
        short = [(s, i) for s, row in enumerate(self.counts) for i, (_, n) in enumerate(row) if n < (self.trials or 1)]
        if short:
            wanted = "no episode" if self.trials is None else f"less than {self.trials} episodes"
            notes.append(f"cells with {wanted}: {len(short)} of {len(self.stages) * len(self.tasks)}")
        if self._curves() is None:
            notes.append(
                "auc: no learning curves of all tasks, so success at the end of each task stands for the mean of its"
                " curve; LIBERO's own AUC is this or lower"
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """The file form, with rates, intervals and figures beside the counts."""
        figures = self.figures()
        return {
            "schema_version": SCHEMA_VERSION,
            "tasks": list(self.tasks),
            "stages": [stage.model_dump() for stage in self.stages],
            "trials": self.trials,
            "successes": [[count[0] for count in row] for row in self.counts],
            "episodes": [[count[1] for count in row] for row in self.counts],
            "success_rate": [[s / n if n else None for s, n in row] for row in self.counts],
            "ci95": [[list(wilson(s, n)[1:]) if n else None for s, n in row] for row in self.counts],
            "learning": {task: curve.model_dump() for task, curve in self.learning.items()},
            "figures": {
                name: {"value": figure.value, "ci95": figure.ci95, "missing": self.missing(figure.missing)}
                for name, figure in figures.items()
            },
            "notes": self.notes(),
        }

    @classmethod
    def load(cls, path: Path) -> SuccessMatrix:
        """Read a matrix file; of what to_dict() gives, only the counts and what they are of is needed.

        Raises:
            MatrixError: no such file, no JSON, or no success matrix.
        """
        try:
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise MatrixError(f"{path} cannot be read: {error}") from error
        except ValueError as error:
            raise MatrixError(f"{path} is not JSON: {error}; write it with flexor eval --matrix --json") from error
        version = data.get("schema_version") if isinstance(data, Mapping) else None
        if version != SCHEMA_VERSION:
            raise MatrixError(
                f"{path} has schema_version {version!r}; expected {SCHEMA_VERSION}, of flexor eval --matrix --json"
            )
        try:
            file = _File.model_validate(data)
            counts = [
                [[*count] for count in zip(*row, strict=True)]
                for row in zip(file.successes, file.episodes, strict=True)
            ]
            curves = [[[*count] for count in zip(c.successes, c.episodes, strict=True)] for c in file.learning.values()]
            for successes, episodes in (count for row in (*counts, *curves) for count in row):
                if successes > episodes:
                    raise MatrixError(f"{successes} successes of {episodes} episodes")
            return cls(tuple(file.tasks), file.stages, file.trials, counts, file.learning)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "it"
            raise MatrixError(f"{path} is no success matrix: {where}: {problem['msg']}") from error
        except MatrixError as error:
            raise MatrixError(f"{path} is no success matrix: {error}") from error

    def _curves(self) -> list[list[Count]] | None:
        """The learning curves in the order of the tasks; None unless each task has one."""
        curves = [self.learning.get(task) for task in self.tasks]
        full = [list(zip(c.successes, c.episodes, strict=True)) for c in curves if c is not None and all(c.episodes)]
        return full if len(full) == len(self.tasks) and all(full) else None
