"""Sight: how much of a thing each camera sees, by rays instead of pictures."""

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

from flexor.sim.failure.scene import Anatomy

INSET = 0.8  # sample points lie so far out towards the corners of each geom
CORNERS = np.array([(0, 0, 0), *product((-1, 1), repeat=3)], np.float64)
MOST_POINTS = 45  # of a thing; of one that is made of more shapes they are thinned out
OUT_OF_VIEW = "out of view"
ROUND = (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE)


@dataclass(frozen=True, slots=True)
class View:
    """What the cameras see of one thing.

    Attributes:
        share: of its sample points, by the camera that sees most of it, 0 to 1; no further point is counted once the
            share that was asked for is reached.
        hidden_by: what is most often in the way of that camera, as Anatomy.owners names it, or "out of view"; empty
            when nothing is.
    """

    share: float
    hidden_by: str


class Sight:
    """Casts a ray from a camera to each sample point of a thing; a point is seen when nothing else is in its way.

    Sample points are the middle and eight corners, INSET of the way out, of every geom of the thing that light stops
    at. They lie inside, so a thing never hides itself. Pictures are taken to be square, as all of this project's
    cameras are.
    """

    def __init__(self, anatomy: Anatomy, cameras: Sequence[str] | None = None) -> None:
        """`cameras`: those that look; all of the anatomy's when None."""
        self._anatomy = anatomy
        self._cameras = [int(anatomy.model.camera(name).id) for name in cameras or anatomy.cameras]
        self._samples: dict[str, tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
        self._hit = np.zeros(1, np.int32)

    def view(self, thing: str, enough: float) -> View:
        """How the cameras see a thing now; nothing further is asked once one sees the share `enough`."""
        points = self._points(thing)
        best: tuple[float, list[str]] = (-1.0, [])
        for camera in self._cameras:
            hits = self._hits(camera, points, thing, enough * len(points))
            share = hits.count(thing) / len(points)
            if share > best[0]:
                best = share, hits
            if share >= enough:
                break
        others = Counter(hit for hit in best[1] if hit != thing)
        return View(best[0], max(others, key=others.__getitem__, default=""))

    def _hits(self, camera: int, points: NDArray[np.float64], thing: str, enough: float) -> list[str]:
        """What the ray from a camera to each point meets on its way, until `enough` have met the thing."""
        model, data, owners = self._anatomy.model, self._anatomy.data, self._anatomy.owners
        eye, turn = data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3)
        rays = points - eye
        local = rays @ turn  # x to the right, y up, the camera looks along -z
        edge = -local[:, 2] * np.tan(np.radians(model.cam_fovy[camera]) / 2.0)
        inside = (np.abs(local[:, :2]) <= edge[:, None]).all(axis=1)
        hits = [OUT_OF_VIEW] * int(len(points) - inside.sum())
        seen = 0
        for ray in rays[inside]:
            way = mujoco.mj_ray(model, data, eye, ray, self._anatomy.seen_groups, 1, -1, self._hit)
            free = not 0.0 <= way < 1.0  # rays pass through what has no colour, and end behind the point
            hits.append(thing if free else owners[self._hit[0]])
            seen += hits[-1] == thing
            if seen >= enough:
                break
        return hits

    def _points(self, thing: str) -> NDArray[np.float64]:
        """World coordinates [n, 3] of the thing's sample points, m."""
        if thing not in self._samples:
            self._samples[thing] = self._choose(thing)
        geoms, offsets = self._samples[thing]
        data = self._anatomy.data
        turned = data.geom_xmat[geoms].reshape(-1, 3, 3) @ offsets[:, :, None]
        return data.geom_xpos[geoms] + turned[:, :, 0]

    def _choose(self, thing: str) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Sample points as geoms [n], and offsets from their middles in their own frames [n, 3], m."""
        model, groups = self._anatomy.model, self._anatomy.seen_groups
        geoms, offsets = [], []
        for geom in [geom for geom, owner in enumerate(self._anatomy.owners) if owner == thing]:
            if groups is not None and not groups[model.geom_group[geom]]:
                continue
            half = model.geom_size[geom].copy()
            if model.geom_type[geom] in ROUND:  # radius, half height
                half = np.array([half[0] / np.sqrt(2.0), half[0] / np.sqrt(2.0), half[1]])
            geoms += [geom] * len(CORNERS)
            offsets.append(INSET * half * CORNERS)
        thin = max(1, -(-len(geoms) // MOST_POINTS))
        return np.array(geoms, dtype=np.intp)[::thin], np.concatenate(offsets)[::thin]
