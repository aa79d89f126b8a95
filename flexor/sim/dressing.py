"""Dresses a model for one episode: the looks of its layout, and what a shift makes of looks, cameras and bodies."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import colorsys
import copy

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim import panda
from flexor.sim.distractors import set_out
from flexor.sim.layout import Layout
from flexor.sim.optics import Lighting, slide_camera, turn_camera
from flexor.sim.scenes import AGENT_CAMERA, LAMP, TABLE_GEOM, Scene
from flexor.sim.shift_draw import ShiftDraw

CHANGED = (
    "geom_rgba", "geom_size", "geom_rbound", "geom_aabb", "geom_friction", "body_mass", "body_inertia", "bvh_aabb",
    "light_diffuse", "light_dir", "light_poscom0", "cam_pos", "cam_quat", "cam_poscom0", "body_pos", "body_quat",
)  # fmt: skip
MEASURED = ("extent", "center", "meansize", "meanmass", "meaninertia")
"""What MuJoCo measures of a model when its constants are derived; the extent moves the planes that clip a picture."""


class Dressing:
    """One model and how it was built; every episode is dressed from there, so none leaves a trace in the next."""

    def __init__(self, model: mujoco.MjModel, scene: Scene) -> None:
        self._model, self._scene = model, scene
        self._geom_names = [model.geom(geom).name for geom in range(model.ngeom)]
        self._built = {name: getattr(model, name).copy() for name in CHANGED}
        self._measured = {name: copy.copy(getattr(model.stat, name)) for name in MEASURED}
        self._lighting = Lighting(model)

    def wear(self, layout: Layout, drawn: ShiftDraw) -> None:
        """Everything as built, then as the layout says, then as the shift says."""
        for name, original in self._built.items():
            getattr(self._model, name)[:] = original
        self._look(layout)
        self._lighting.shine(drawn, [self._model.light(LAMP)])
        self._paint(drawn)
        self._turn_cameras(drawn)
        self._grow(1.0 + drawn.size)
        self._roughen(1.0 + drawn.friction)
        set_out(self._model, drawn.places)

    def _geoms(self, name: str) -> list[int]:
        """The geoms of an item, or of the table."""
        return [geom for geom, own in enumerate(self._geom_names) if own.startswith(name)]

    def _look(self, layout: Layout) -> None:
        model = self._model
        for name, offset in layout.colours.items():
            for geom in self._geoms(name if name != "table" else TABLE_GEOM):
                model.geom_rgba[geom, :3] = np.clip(model.geom_rgba[geom, :3] + offset, 0.0, 1.0)
        lamp = model.light(LAMP)
        lamp.diffuse[:] = layout.light
        lamp.dir[:] = (lamp.dir + layout.lamp_sway) / np.linalg.norm(lamp.dir + layout.lamp_sway)
        model.camera(AGENT_CAMERA).pos[:] += layout.camera_sway

    def _paint(self, drawn: ShiftDraw) -> None:
        rgba = self._model.geom_rgba
        for geom in self._geoms(TABLE_GEOM) if any(drawn.table_rgb) else ():
            rgba[geom, :3] = np.clip(rgba[geom, :3] + np.asarray(drawn.table_rgb), 0.0, 1.0)
        for item, turn in zip(self._scene.items, drawn.hue, strict=False):
            for geom in self._geoms(item.name):
                rgba[geom, :3] = repaint(rgba[geom, :3], turn, 1.0 + drawn.saturation, 1.0 + drawn.brightness)

    def _turn_cameras(self, drawn: ShiftDraw) -> None:
        agent, wrist = self._model.camera(AGENT_CAMERA), self._model.camera(panda.WRIST_CAMERA)
        agent.pos[:] += np.asarray(drawn.agent_move)
        slide_camera(wrist, drawn.wrist_move)
        turn_camera(agent, drawn.agent_turn)
        turn_camera(wrist, drawn.wrist_turn)

    def _grow(self, gain: float) -> None:
        """Scale what moves, at the same density. The model's derived constants follow."""
        model = self._model
        if gain == 1.0:
            return
        for item in self._scene.items:
            if item.movable:
                (geom,) = self._geoms(item.name)
                body = model.geom_bodyid[geom]
                tree = slice(model.body_bvhadr[body], model.body_bvhadr[body] + model.body_bvhnum[body])
                for sizes in (model.geom_size[geom], model.geom_aabb[geom], model.bvh_aabb[tree]):
                    sizes *= gain
                model.geom_rbound[geom] *= gain
                model.body_mass[body] *= gain**3
                model.body_inertia[body] *= gain**5
        mujoco.mj_setConst(model, mujoco.MjData(model))
        for name, original in self._measured.items():
            setattr(model.stat, name, original)

    def _roughen(self, gain: float) -> None:
        """Scale the friction of what moves, of the table and of the fingers: a contact takes the larger of two."""
        movable = [item.name for item in self._scene.items if item.movable]
        for name in (*movable, TABLE_GEOM, *panda.FINGER_GEOMS) if gain != 1.0 else ():
            for geom in self._geoms(name):
                self._model.geom_friction[geom] *= gain


def repaint(rgb: NDArray[np.floating], turn: float, saturation: float, brightness: float) -> NDArray[np.float64]:
    """An RGB colour [3] in [0, 1] with its hue moved (turns of the colour circle), the rest scaled."""
    hue, strong, bright = colorsys.rgb_to_hsv(*map(float, rgb))
    return np.array(
        colorsys.hsv_to_rgb((hue + turn) % 1.0, min(1.0, strong * saturation), min(1.0, bright * brightness))
    )
