"""LIBERO's suites: their tasks, sentences and official initial states, read from hf-libero's own files."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.sim.libero.packages import MissingPackages, benchmark_folder, require_packages

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
ALIASES = {"libero_long": "libero_10"}


class SuiteError(FlexorError):
    """An unknown suite, or an unknown task of one."""


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """One task of a suite.

    Attributes:
        suite: e.g. "libero_spatial".
        index: its number in the suite, as published results count.
        name: as LIBERO's files are called.
        sentence: as openpi's evaluation and LIBERO's datasets say it (made of the name, not of the task file).
        bddl_file: scene, objects and goal.
    """

    suite: str
    index: int
    name: str
    sentence: str
    bddl_file: Path


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite and its tasks in their official order."""

    name: str
    tasks: tuple[SuiteTask, ...]

    def find(self, name: str) -> SuiteTask:
        """The task of that name, or of that number.

        Raises:
            SuiteError: there is none.
        """
        for task in self.tasks:
            if name in (task.name, str(task.index)):
                return task
        raise SuiteError(
            f"{self.name} has no task {name!r}; expected 0 to {len(self.tasks) - 1} or one of: "
            f"{', '.join(task.name for task in self.tasks)}"
        )


def is_suite(name: str) -> bool:
    """Whether a simulator's name is one of these; needs nothing installed."""
    return name in SUITES or name in ALIASES


@functools.cache
def find_suite(name: str) -> Suite:
    """The suite of that name or alias.

    Raises:
        SuiteError: there is none.
        MissingPackages: hf-libero is not installed.
    """
    name = ALIASES.get(name, name)
    if name not in SUITES:
        raise SuiteError(f"unknown LIBERO suite {name!r}, expected one of: {', '.join((*SUITES, *ALIASES))}")
    folder = _benchmark()
    names = _task_map(folder / "benchmark" / "libero_suite_task_map.py")[name]
    tasks = (
        SuiteTask(name, index, task, _sentence(task), folder / "bddl_files" / name / f"{task}.bddl")
        for index, task in enumerate(names)
    )
    return Suite(name, tuple(tasks))


def official_starts(task: SuiteTask) -> NDArray[np.float64]:
    """The simulator states that the task's trials begin with, float64 [50, 1 + nq + nv]: time, positions, velocities.

    Raises:
        MissingPackages: hf-libero or torch, in whose format they are kept, is not installed.
    """
    require_packages()
    import torch
    from numpy._core.multiarray import _reconstruct  # under its old name in these files

    # What an array is made of, and nothing else, so that no file can run code.
    parts = [(_reconstruct, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype, np.dtypes.Float64DType]
    with torch.serialization.safe_globals(parts):
        starts = torch.load(_benchmark() / "init_files" / task.suite / f"{task.name}.pruned_init", weights_only=True)
    return np.asarray(starts, dtype=np.float64)


def _benchmark() -> Path:
    folder = benchmark_folder()
    if folder is None:
        raise MissingPackages("LIBERO needs hf-libero, not installed here; type: make libero")
    return folder


def _task_map(path: Path) -> dict[str, list[str]]:
    """The table in hf-libero's file, read and not run: importing its package asks questions."""
    tree = ast.parse(path.read_text())
    (table,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    return ast.literal_eval(table)


def _sentence(name: str) -> str:
    """As LIBERO's grab_language_from_filename: "KITCHEN_SCENE10_close_the_drawer" -> "close the drawer"."""
    return re.sub(r"^[A-Z_]+SCENE\d+_", "", name).replace("_", " ")
