"""Renders the cameras of a world off screen, cheaply: no shadows, no reflections, no sky box."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.system_libraries import require_rendering

COSTLY = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX)


class RenderError(FlexorError):
    """No off-screen OpenGL context could be made."""


class CameraRig:
    """All cameras of one model at one size.

    Keep it open as long as the process renders: with software EGL, frames drawn after another rig of the same
    process was closed have been seen to be garbage.

    Raises:
        MissingSystemLibrary: EGL is not installed; says what to type.
        RenderError: OpenGL cannot draw off screen here.
    """

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        require_rendering()
        try:
            self._renderer = mujoco.Renderer(model, size, size)
        except Exception as error:  # the backend's errors share no base class
            raise RenderError(
                f"cannot render off screen with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r} ({error}); "
                "expected a working EGL; `flexor doctor` tells what is missing"
            ) from error
        for flag in COSTLY:
            self._renderer.scene.flags[flag] = 0

    def shoot(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """One frame, uint8 [size, size, 3] RGB, row 0 at the top."""
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
