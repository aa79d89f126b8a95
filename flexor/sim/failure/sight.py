"""Sight: how much of a body each camera sees, by rays instead of pictures."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim.failure.moment import geom_owners
from flexor.sim.world import World

INSET = 0.8  # sample points lie so far out towards the corners of each geom
CORNERS = np.array([(0, 0, 0), *product((-1, 1), repeat=3)], np.float64)
OUT_OF_VIEW = "out of view"


@dataclass(frozen=True, slots=True)
class View:
    """What the cameras see of one body.

    Attributes:
        share: of its sample points, by the camera that sees most of it, 0 to 1.
        hidden_by: what is most often in the way of that camera, as geom_owners names it, or "out of view"; empty when
            nothing is.
    """

    share: float
    hidden_by: str


class Sight:
    """Casts a ray from a camera to each sample point of a body; a point is seen when the ray meets that body first.

    Sample points are the middle and eight corners, INSET of the way out, of every geom of the body. They lie inside,
    so a body never hides itself. Pictures are taken to be square, as all of this project's cameras are.
    """

    def __init__(self, world: World, cameras: Sequence[str]) -> None:
        self._world = world
        self._cameras = [int(world.model.camera(name).id) for name in cameras]
        self._names = geom_owners(world.model)
        self._hit = np.zeros(1, np.int32)

    def view(self, body: str, enough: float) -> View:
        """How the cameras see `body` now; no further camera is asked once one sees the share `enough`."""
        points = self._points(int(self._world.model.body(body).id))
        best: tuple[float, list[str]] = (-1.0, [])
        for camera in self._cameras:
            hits = self._hits(camera, points)
            share = hits.count(body) / len(hits)
            if share > best[0]:
                best = share, hits
            if share >= enough:
                break
        others = Counter(hit for hit in best[1] if hit != body)
        return View(best[0], max(others, key=others.__getitem__, default=""))

    def _hits(self, camera: int, points: NDArray[np.float64]) -> list[str]:
        """What the ray from a camera to each point meets first."""
        model, data = self._world.model, self._world.data
        eye, turn = data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3)
        rays = points - eye
        local = rays @ turn  # x to the right, y up, the camera looks along -z
        edge = -local[:, 2] * np.tan(np.radians(model.cam_fovy[camera]) / 2.0)
        inside = (np.abs(local[:, :2]) <= edge[:, None]).all(axis=1)
        hits = [OUT_OF_VIEW] * int(len(points) - inside.sum())
        for ray in rays[inside]:
            mujoco.mj_ray(model, data, eye, ray, None, 1, -1, self._hit)
            hits.append(self._names[self._hit[0]])
        return hits

    def _points(self, body: int) -> NDArray[np.float64]:
        """World coordinates [n, 3] of the body's sample points, m."""
        model, data = self._world.model, self._world.data
        first = int(model.body_geomadr[body])
        clouds = []
        for geom in range(first, first + int(model.body_geomnum[body])):
            half = model.geom_size[geom].copy()
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CYLINDER:  # radius, half height
                half = np.array([half[0] / np.sqrt(2.0), half[0] / np.sqrt(2.0), half[1]])
            clouds.append(data.geom_xpos[geom] + INSET * half * CORNERS @ data.geom_xmat[geom].reshape(3, 3).T)
        return np.concatenate(clouds)
