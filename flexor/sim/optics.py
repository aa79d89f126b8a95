"""What a shift makes of the lamps and cameras of any model."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim.shift_draw import Vector


class Shine(Protocol):
    """What a draw of any simulator says of light: see the dials of the axis."""

    @property
    def lamp(self) -> float: ...
    @property
    def ambient(self) -> float: ...
    @property
    def warmth(self) -> float: ...
    @property
    def lean(self) -> Vector: ...


class Lighting:
    """The light of a model. The light from everywhere begins at how it was built; lamps are taken as they are."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._headlight = model.vis.headlight
        self._ambient, self._diffuse = self._headlight.ambient.copy(), self._headlight.diffuse.copy()

    def shine(self, drawn: Shine, lamps: Iterable[Any]) -> None:
        """Make it brighter, warmer, and from elsewhere.

        Args:
            lamps: as model.light gives them.
        """
        tone = np.array([1.0 + drawn.warmth, 1.0, 1.0 - drawn.warmth])
        self._headlight.ambient[:] = self._ambient * (1.0 + drawn.ambient) * tone
        self._headlight.diffuse[:] = self._diffuse * (1.0 + drawn.ambient) * tone
        for lamp in lamps:
            if drawn.lamp or drawn.warmth:
                lamp.diffuse[:] *= (1.0 + drawn.lamp) * tone
            if any(drawn.lean):
                direction = lamp.dir + np.asarray(drawn.lean)
                lamp.dir[:] = direction / np.linalg.norm(direction)


def slide_camera(camera: Any, move: Sequence[float]) -> None:
    """Move a camera of a model along its own axes (m, right up back)."""
    camera.pos[:] += axes(camera.quat) @ np.asarray(move)


def turn_camera(camera: Any, degrees: Sequence[float]) -> None:
    """Turn a camera of a model about its own axes (right up back)."""
    if any(degrees):
        quat = camera.quat.copy()
        mujoco.mju_quatIntegrate(quat, np.radians(degrees), 1.0)
        camera.quat[:] = quat


def axes(quat: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation matrix [3, 3] of a quaternion w x y z."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)
