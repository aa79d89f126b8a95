"""Dresses the model of a LIBERO scene for one episode: cameras, lamps, textures, friction and masses."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from flexor.sim.distractors import PREFIX
from flexor.sim.libero.shift.arrangement import ground_height
from flexor.sim.libero.shift.draw import LiberoDraw
from flexor.sim.libero.shift.surfaces import Surfaces
from flexor.sim.libero.stage import Stage
from flexor.sim.optics import Lighting, axes, slide_camera, turn_camera
from flexor.sim.scenes import CAMERAS

CHANGED = (
    "cam_pos", "cam_quat", "light_diffuse", "light_dir", "geom_friction", "body_mass", "body_inertia",
    "body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0",
)  # fmt: skip


class Dressing:
    """One stage's model and how it was built; every episode is dressed from there, so none leaves a trace in the next.

    Where the fixtures stand is not its business: that is drawn anew for each episode anyhow.

    Attributes:
        surfaces: the textures that may change.
    """

    def __init__(self, stage: Stage, assets: Path) -> None:
        self._stage, self._model = stage, stage.model
        self._built = {name: getattr(self._model, name).copy() for name in CHANGED}
        model = self._model
        self._away = [body for body in range(model.nbody) if model.body(body).name.startswith(PREFIX)]
        self._poses = model.body_pos[self._away].copy(), model.body_quat[self._away].copy()
        self._unseen = [geom for geom in range(model.ngeom) if model.geom(geom).name.startswith(PREFIX)]
        self._lighting = Lighting(model)
        self.surfaces = Surfaces(self._model, assets)

    def undress(self) -> None:
        """Everything as it was built, and no distractor set out."""
        for name, original in self._built.items():
            getattr(self._model, name)[:] = original
        self._model.body_pos[self._away], self._model.body_quat[self._away] = self._poses
        self._model.geom_rgba[self._unseen] = 0.0
        self._lighting.shine(LiberoDraw(), ())
        self.surfaces.restore()

    def wear(self, drawn: LiberoDraw) -> None:
        """Everything as built, then as the draw says."""
        self.undress()
        model = self._model
        self._lighting.shine(drawn, [model.light(number) for number in range(model.nlight)])
        self.surfaces.paint(drawn)
        self._turn_cameras(drawn)
        model.geom_friction[:] *= 1.0 + drawn.friction  # of all: a contact takes the larger of two
        self._weigh(1.0 + drawn.mass)

    def _turn_cameras(self, drawn: LiberoDraw) -> None:
        agent, wrist = (self._model.camera(name) for name in CAMERAS)
        if drawn.azimuth or drawn.elevation or drawn.distance:
            _go_round(agent, ground_height(self._stage), drawn)
        slide_camera(wrist, drawn.wrist_move)
        turn_camera(agent, drawn.agent_turn)
        turn_camera(wrist, drawn.wrist_turn)

    def _weigh(self, gain: float) -> None:
        """Scale the mass of what can be moved about, and what MuJoCo derives from it (a test compares with its own)."""
        model = self._model
        for thing in self._stage.things if gain != 1.0 else ():
            mine = model.body_rootid == self._stage.body(thing)
            dofs = mine[model.dof_bodyid]
            model.body_subtreemass[0] += (gain - 1.0) * model.body_mass[mine].sum()
            for array in (model.body_mass, model.body_inertia, model.body_subtreemass):
                array[mine] *= gain
            model.dof_M0[dofs] *= gain
            model.body_invweight0[mine] /= gain
            model.dof_invweight0[dofs] /= gain


def _go_round(camera: Any, ground: float, drawn: LiberoDraw) -> None:
    """Move a fixed camera round the point of the ground that it looks at; what it looks at stays in the middle."""
    pos, quat = camera.pos.copy(), camera.quat.copy()
    ahead = -axes(quat)[:, 2]
    middle = pos + ahead * (ground - pos[2]) / ahead[2]
    right = axes(quat)[:, 0]
    rise, round_up = np.empty(4), np.empty(4)
    mujoco.mju_axisAngle2Quat(rise, right, -np.radians(drawn.elevation))  # leaning over from above
    mujoco.mju_axisAngle2Quat(round_up, np.array([0.0, 0.0, 1.0]), np.radians(drawn.azimuth))
    turn, turned = np.empty(4), np.empty(4)
    mujoco.mju_mulQuat(turn, round_up, rise)
    mujoco.mju_mulQuat(turned, turn, quat)
    camera.pos[:] = middle + axes(turn) @ (pos - middle) * (1.0 + drawn.distance)
    camera.quat[:] = turned
