"""What domain shift looks like: for each axis one picture, a column a level, a row a camera.

An axis that shows from the first frame is drawn there. One that shows only in motion is drawn after the same commands:
the oracle's in the unshifted world, played without looking in each of the shifted ones.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flexor.runtime.observation import Observation
from flexor.sim.oracle import Oracle
from flexor.sim.robots import TabletopRobot
from flexor.sim.scenes import CAMERAS
from flexor.sim.shift import Shift
from flexor.sim.shift_table import AXES, LEVELS
from flexor.sim.tasks import TASKS

SIZE = 160  # px, each frame
LINE, LINES, LETTERS = 13, 3, 28  # px each line of a caption; how many; letters in one
SHOWN = dict.fromkeys(AXES, ("red_block_on_plate", 0)) | {
    "friction": ("puck_to_white_mat", 36),
    "action_delay": ("puck_to_white_mat", 14),
    "action_noise": ("puck_to_white_mat", 36),
}
"""By axis: the task, and after how many control steps it is drawn."""


def write_pictures(folder: Path, seed: int) -> Iterator[Path]:
    """Write shift-AXIS.png for every axis into `folder`, as the episode of `seed` is drawn; yields what is written."""
    folder.mkdir(parents=True, exist_ok=True)
    robots = {(axis, level): TabletopRobot(SIZE, Shift(level, (axis,))) for axis in AXES for level in LEVELS}
    for axis in AXES:
        task, steps = SHOWN[axis]
        commands = _commands(robots[axis, "none"], task, seed, steps)
        columns = [_column(robots[axis, level], level, task, seed, commands) for level in LEVELS]
        path = folder / f"shift-{axis}.png"
        side_by_side(columns).quantize(192).save(path, optimize=True)
        yield path
    for robot in robots.values():  # none before the last frame is drawn: see flexor.sim.camera
        robot.close()


def _commands(robot: TabletopRobot, task: str, seed: int, steps: int) -> list[NDArray[np.float32]]:
    """What the oracle does in the unshifted world."""
    robot.reset(seed, task)
    oracle, commands = Oracle(TASKS[task]), []
    for _ in range(steps):
        commands.append(oracle.act(robot.world))
        robot.act(commands[-1])
    return commands


def _column(
    robot: TabletopRobot, level: str, task: str, seed: int, commands: Sequence[NDArray[np.float32]]
) -> Image.Image:
    robot.reset(seed, task)
    for command in commands:
        robot.act(command)
    return column(robot.observe(), level)


def column(seen: Observation, level: str, lines: int = LINES) -> Image.Image:
    """Both cameras' frames, SIZE px wide, over a caption: the level and what is said."""
    drawn = Image.new("RGB", (SIZE, SIZE * len(CAMERAS) + 8 + LINE * lines), "white")
    for row, camera in enumerate(CAMERAS):
        frame = Image.fromarray(seen.images[camera])
        drawn.paste(frame if frame.width == SIZE else frame.resize((SIZE, SIZE)), (0, row * SIZE))
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(10)
    for number, line in enumerate(textwrap.wrap(f"{level}: {seen.prompt}", LETTERS)[:lines]):
        draw.text((2, SIZE * len(CAMERAS) + 4 + LINE * number), line, "black", font)
    return drawn


def side_by_side(columns: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size, beside each other."""
    gap = 4
    width = sum(column.width for column in columns) + gap * (len(columns) - 1)
    whole = Image.new("RGB", (width, columns[0].height), "white")
    for index, column in enumerate(columns):
        whole.paste(column, (index * (SIZE + gap), 0))
    return whole
