"""Trackers: who else gets the rows of a run's curves, each library imported when it is used."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator

PROJECT = "flexor"
TrackerName = Literal["wandb", "trackio"]


class Tracker(Protocol):
    """Takes rows of numbers by name, such as {"train/loss": 0.2}, each after `step` optimiser steps."""

    def write(self, step: int, row: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `folder`/tensorboard, from `step` on; what a killed run wrote after it is purged."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Add a row."""
        for name, value in row.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is still held."""
        self._board.close()


class LoggedRun:
    """A run of wandb or of trackio, whose `log` and `finish` are the same; a resumed one goes on under its name."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Add a row."""
        self._run.log(dict(row), step=step)

    def close(self) -> None:
        """Let the library send what it still holds."""
        self._run.finish()


def _wandb(folder: Path, step: int) -> Tracker:
    name = _run_name(folder)
    run = importlib.import_module("wandb").init(project=PROJECT, name=name, id=name, resume="allow", dir=str(folder))
    return LoggedRun(run)


def _trackio(folder: Path, step: int) -> Tracker:
    return LoggedRun(importlib.import_module("trackio").init(project=PROJECT, name=_run_name(folder), resume="allow"))


def _run_name(folder: Path) -> str:
    """The same for a run that goes on, another for every other folder on this machine."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9._-]', '-', folder.name)}-{digest}"


TRACKERS: dict[str, Callable[[Path, int], Tracker]] = {"tensorboard": TensorBoard, "wandb": _wandb, "trackio": _trackio}
"""By name: opens the tracker of the run in a folder, which has come to a step."""


def _installed(names: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"{name} is not installed; `pip install {name}`, or leave it out")
    return names


Trackers = Annotated[tuple[TrackerName, ...], AfterValidator(_installed)]
"""A setting: those beside TensorBoard; one that is not installed is refused before anything starts."""
