"""Draws the pictures of docs/failures.md from the constructed episodes: `.venv/bin/python tests/draw_mishaps.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mishaps
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flexor.sim.camera import CameraRig
from flexor.sim.scenes import CAMERAS, SCENES
from flexor.sim.tasks import TASKS
from flexor.sim.world import World

FOLDER = Path(__file__).parents[1] / "docs" / "failures"
SIZE, CAPTION, GAP = 176, 20, 4  # px
RED, GREY, DARK = "#e05050", "#b8bec8", "#15171c"
NEAR, FAR = (-16, -6, 0, 6, 16), (-36, -24, -12, 0, 12)  # control steps before and after the event

# label: task, seed, driver, steps that are shown
SHOWN = {
    "grasp_slip": ("blue_block_in_box", 301, mishaps.Greaser(), NEAR),
    "reach_miss": ("red_block_on_plate", 302, mishaps.Misser(), NEAR),
    "collision": ("red_block_on_plate", 303, mishaps.into_box, NEAR),
    "occlusion": ("red_block_on_plate", 302, mishaps.park_in_view, FAR),
    "timeout": ("red_block_on_plate", 302, mishaps.hover, FAR),
}
STEPS = 60


def strip(label: str) -> Image.Image:
    """Both cameras before, at and after the event that leads."""
    name, seed, drive, around = SHOWN[label]
    world = World(SCENES[TASKS[name].scene])
    rig = CameraRig(world.model, SIZE)
    shots: list[list[NDArray[np.uint8]]] = []

    def look(step: int, action: NDArray[np.float32]) -> None:
        shots.append([rig.shoot(world.data, camera) for camera in CAMERAS])

    played = mishaps.play(world, name, seed, drive, STEPS, look)
    assert played.label == label, (label, played)
    event = next(event for event in played.events if event.label == label)
    shots.append([rig.shoot(world.data, camera) for camera in CAMERAS])
    chosen = [event.step + shift for shift in around if 0 <= event.step + shift < STEPS]
    return _sheet([(step, shots[step + 1], step == event.step) for step in chosen])


def _sheet(columns: Sequence[tuple[int, list[NDArray[np.uint8]], bool]]) -> Image.Image:
    width = len(columns) * (SIZE + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * (SIZE + GAP) - GAP + CAPTION), DARK)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (step, views, marked) in enumerate(columns):
        left = number * (SIZE + GAP)
        for row, view in enumerate(views):
            sheet.paste(Image.fromarray(view), (left, row * (SIZE + GAP)))
        colour = RED if marked else GREY
        draw.text((left + 4, 2 * (SIZE + GAP)), f"step {step}", colour, font)
        if marked:
            draw.rectangle((left, 0, left + SIZE - 1, 2 * SIZE + GAP - 1), outline=RED, width=2)
    return sheet.quantize(128, dither=Image.Dither.NONE)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for label in SHOWN:
        path = FOLDER / f"{label}.png"
        strip(label).save(path, optimize=True)
        print(path.name, path.stat().st_size)
