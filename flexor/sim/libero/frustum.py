"""Frustum: which geoms a camera cannot see, because their bounding spheres lie outside its pyramid of view.

MuJoCo hands every vertex to OpenGL, whichever way the camera looks, and without a GPU vertices are what a frame costs.
Only where nothing throws a shadow or is mirrored is what lies outside of no account.
"""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.stage import UNSEEN

MARGIN = 0.01  # m


def outside(model: Any, seen: Any, camera: int) -> NDArray[np.bool_]:
    """Which geoms lie outside a square frame of a fixed camera, bool [ngeom].

    Args:
        seen: MuJoCo's data, of which the places of cameras and geoms are read.
    """
    radius = model.geom_rbound + MARGIN
    right, up, back = ((seen.geom_xpos - seen.cam_xpos[camera]) @ seen.cam_xmat[camera].reshape(3, 3)).T
    half = np.deg2rad(model.cam_fovy[camera]) / 2.0
    sine, cosine = np.sin(half), np.cos(half)
    aside = np.maximum(np.abs(right), np.abs(up)) * cosine + back * sine  # m beyond the nearest side of the pyramid
    return (model.geom_rbound > 0.0) & ((aside > radius) | (back > radius))  # planes have no sphere


class Unseen:
    """Within it, what lies outside a camera's view is not drawn."""

    def __init__(self, model: Any, seen: Any, camera: int) -> None:
        self._groups = model.geom_group
        self._kept = np.array(self._groups)
        self._outside = outside(model, seen, camera)

    def __enter__(self) -> None:
        self._groups[self._outside] = UNSEEN

    def __exit__(self, *error: object) -> None:
        self._groups[:] = self._kept
