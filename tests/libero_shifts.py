"""LIBERO robots in a shift, for tests."""

from __future__ import annotations

from typing import Any

from flexor.sim.libero.protocol import LiberoSettings
from flexor.sim.libero.shift.table import LIBERO_AXES
from flexor.sim.shift import LIBERO, Shift


def libero(level: str, *axes: str) -> Shift:
    return Shift(level, axes or LIBERO_AXES, LIBERO)


def open_robot(shift: Shift, task: str = "libero_spatial/0", starts: str = "official") -> Any:
    from flexor.sim.libero.robot import LiberoRobot

    suite, number = task.split("/")
    return LiberoRobot(suite, LiberoSettings(render="fast", starts=starts), shift, number)  # type: ignore[arg-type]
