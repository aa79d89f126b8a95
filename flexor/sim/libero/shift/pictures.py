"""What domain shift looks like in a LIBERO suite: for each axis one picture, a column a level, a row a camera.

What shows only in motion is drawn after the same commands: the expert's in the unshifted world, played without looking
in each of the shifted ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flexor.sim.libero.robot import LiberoRobot
from flexor.sim.libero.shift.table import LIBERO_AXES
from flexor.sim.shift import LIBERO, Shift
from flexor.sim.shift_pictures import column, side_by_side
from flexor.sim.shift_table import LEVELS

TASK = "0"
STEPS = {"friction": 45, "mass": 45, "action_delay": 12, "action_noise": 30}
"""After how many control steps an axis is drawn; at the beginning, if not told."""
LINES = 6  # of a caption: the sentences are long
QUALITY = 85  # of the JPEG files


def write_libero_pictures(folder: Path, suite: str, seed: int) -> Iterator[Path]:
    """Write shift-libero-AXIS.jpg for every axis into `folder`; yields what is written.

    Args:
        seed: of the episode that is drawn, of the suite's first task.

    Raises:
        FlexorError: an unknown suite, or LIBERO cannot run here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    commands = _commands(suite, seed)
    for axis in LIBERO_AXES:
        played = commands[: STEPS.get(axis, 0)]
        columns = [_column(suite, Shift(level, (axis,), LIBERO), seed, played) for level in LEVELS]
        path = folder / f"shift-libero-{axis}.jpg"
        side_by_side(columns).save(path, quality=QUALITY, optimize=True)
        yield path


def _commands(suite: str, seed: int) -> list[NDArray[np.float32]]:
    """What the expert does in the unshifted world."""
    robot, commands = LiberoRobot(suite, only=TASK), []
    robot.reset(seed, TASK)
    expert = robot.expert()
    for _ in range(max(STEPS.values())):
        commands.append(expert())
        robot.act(commands[-1])
    robot.close()
    return commands


def _column(suite: str, shift: Shift, seed: int, commands: Sequence[NDArray[np.float32]]) -> Image.Image:
    robot = LiberoRobot(suite, shift=shift, only=TASK)
    robot.reset(seed, TASK)
    for command in commands:
        robot.act(command)
    drawn = column(robot.observe(), shift.level, LINES)
    robot.close()
    return drawn
