"""Surfaces: the textures of table, floor and walls of a LIBERO scene, and others in their place."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import functools
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flexor.sim.libero.shift.draw import LiberoDraw

TABLES = ("tex-table", "tex-short_coffee_table", "tex-living_room_table", "tex-desk")
FLOOR, WALLS = "texplane", "tex-wall"


class Surfaces:
    """The textures that a shift paints over, as they were built.

    Attributes:
        textures: their numbers in the model: what a View has to load again once they were painted.
    """

    def __init__(self, model: mujoco.MjModel, folder: Path) -> None:
        """
        Args:
            folder: LIBERO's assets.
        """
        self._model, self._folder = model, folder / "textures"
        names = {"table": TABLES, "floor": (FLOOR,), "walls": (WALLS,)}
        if not _has_table(model):
            names = {"table": (FLOOR,), "walls": (WALLS,)}
        known = {model.texture(number).name: number for number in range(model.ntex)}
        self._of = {surface: [known[name] for name in among if name in known] for surface, among in names.items()}
        self.textures = tuple(number for numbers in self._of.values() for number in numbers)
        self._built = {number: self._pixels(number).copy() for number in self.textures}

    def restore(self) -> None:
        """As they were built."""
        for number, built in self._built.items():
            self._pixels(number)[:] = built

    def paint(self, drawn: LiberoDraw) -> None:
        """Another texture where the draw says so, then the draw's tone."""
        for surface, numbers in self._of.items():
            tone = drawn.table_tone if surface == "table" else drawn.room_tone
            file = drawn.textures.get(surface)
            for number in numbers if file or any(tone) else ():
                pixels, built = self._pixels(number), self._built[number]
                base = _picture(self._folder / f"{file}.png", *built.shape[1::-1]) if file else built[..., :3]
                pixels[..., :3] = np.rint(np.clip(base * (1.0 + np.asarray(tone)), 0.0, 255.0)).astype(np.uint8)

    def _pixels(self, number: int) -> NDArray[np.uint8]:
        """The texture as a view into the model, uint8 [height, width, channels]."""
        model = self._model
        shape = (model.tex_height, model.tex_width, model.tex_nchannel)
        height, width, channels = (int(part[number]) for part in shape)
        begin = int(model.tex_adr[number])
        return model.tex_data[begin : begin + height * width * channels].reshape(height, width, channels)


def _has_table(model: mujoco.MjModel) -> bool:
    """Whether some geom wears one of TABLES: else things stand on the floor."""
    worn = {int(model.geom_matid[geom]) for geom in range(model.ngeom)} - {-1}
    textures = {int(number) for material in worn for number in model.mat_texid[material] if number >= 0}
    return any(model.texture(number).name in TABLES for number in textures)


@functools.lru_cache(16)
def _picture(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
