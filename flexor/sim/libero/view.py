"""View: draws what a policy sees of a LIBERO scene, equal to robosuite's own frames in every pixel."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import atexit
import contextlib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.pi05.images import resize_with_pad
from flexor.runtime.system_libraries import require_rendering
from flexor.sim.camera import COSTLY, RenderError
from flexor.sim.libero.frustum import Unseen
from flexor.sim.libero.protocol import Resize
from flexor.sim.libero.retina import Retina
from flexor.sim.scenes import CAMERAS

Frame = NDArray[np.uint8]
SENT = 224  # px, what openpi's client sends
_MAX_GEOMS = 1000  # robosuite's


@dataclass(frozen=True, slots=True)
class Render:
    """How frames are made.

    Attributes:
        name: as --render takes it.
        size: px, both sides as drawn.
        sent: px, both sides as the policy gets them.
        costly: with shadows, reflections, sky and four samples a pixel, as the benchmark has them. Without, a frame is
            drawn larger than it is sent, which smooths edges for less on a CPU, where vertices cost more than pixels.
    """

    name: str
    size: int
    sent: int
    costly: bool


RENDERS = {
    "official": Render("official", size=256, sent=SENT, costly=True),
    "fast": Render("fast", size=256, sent=128, costly=False),
}


def find_render(name: str) -> Render:
    """The way of rendering of that name.

    Raises:
        RenderError: there is none.
    """
    if name not in RENDERS:
        raise RenderError(f"unknown way to render {name!r}, expected one of: {', '.join(RENDERS)}")
    return RENDERS[name]


class View:
    """Draws what a Retina saw. All views of a process draw in one OpenGL context.

    Raises:
        MissingSystemLibrary: EGL is not installed; says what to type.
        RenderError: OpenGL cannot draw off screen here.
    """

    def __init__(self, model: mujoco.MjModel, render: Render, resize: Resize) -> None:
        self._model, self._render, self._resize = model, render, resize if render.costly else "pillow"
        self._cameras = {camera: model.camera(camera).id for camera in CAMERAS}
        context = _context()
        context.make_current()
        samples = model.vis.quality.offsamples
        model.vis.quality.offsamples = samples if render.costly else 0
        self._drawn = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        model.vis.quality.offsamples = samples
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[0] = 0  # collision shapes
        self._option.geomgroup[1] = 1  # visual ones
        for flag in () if render.costly else COSTLY:
            self._scene.flags[flag] = 0

    def shoot(self, retina: Retina, camera: str, look: Callable[[Frame], Frame] | None = None) -> Frame:
        """One frame as the policy gets it, uint8 [sent, sent, 3] RGB: turned by 180 degrees, which is upright and
        mirrored.

        Args:
            look: what becomes of the frame as drawn, before it is made smaller.
        """
        frame = self.draw(retina, camera)[::-1, ::-1]
        frame = frame if look is None else look(frame)
        if self._render.sent == self._render.size:
            return np.ascontiguousarray(frame)
        if self._resize == "bilinear":
            return resize_bilinear(frame, self._render.sent)
        return resize_with_pad(np.ascontiguousarray(frame), self._render.sent)

    def draw(self, retina: Retina, camera: str) -> NDArray[np.uint8]:
        """One frame as robosuite gives it, uint8 [size, size, 3] RGB, row 0 at the bottom."""
        size, model = self._render.size, self._model
        _context().make_current()
        now = np.array(model.site_rgba)
        model.site_rgba[:] = retina.site_rgba
        try:
            eye = mujoco.MjvCamera()
            eye.type, eye.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._cameras[camera]
            everything = mujoco.mjtCatBit.mjCAT_ALL
            # with shadows and reflections also what the camera does not see is seen
            hidden = contextlib.nullcontext() if self._render.costly else Unseen(model, retina.seen, eye.fixedcamid)
            with hidden:
                mujoco.mjv_updateScene(model, retina.seen, self._option, None, eye, everything, self._scene)
        finally:
            model.site_rgba[:] = now
        window = mujoco.MjrRect(0, 0, size, size)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawn)
        mujoco.mjr_render(window, self._scene, self._drawn)
        frame = np.empty((size, size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(frame, None, window, self._drawn)
        return frame

    def load_textures(self, textures: Iterable[int]) -> None:
        """Load these of the model's textures again, after they were painted over."""
        _context().make_current()
        for number in textures:
            mujoco.mjr_uploadTexture(self._model, self._drawn, number)

    def close(self) -> None:
        """Free the textures and meshes; the OpenGL context stays."""
        _context().make_current()
        self._drawn.free()


def resize_bilinear(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A square frame, uint8 [n, n, 3], at another size: bilinear, no antialiasing, rounded to whole numbers.

    torch's interpolate with align_corners=False, which LeRobot applies to floats without rounding.
    """
    side = frame.shape[0]
    place = np.maximum((np.arange(size) + 0.5) * (side / size) - 0.5, 0.0)
    low = place.astype(np.int64)
    high = np.minimum(low + 1, side - 1)
    share = (place - low)[:, None, None]
    rows = frame[low] * (1.0 - share) + frame[high] * share
    share = share.reshape(1, -1, 1)
    return np.rint(rows[:, low] * (1.0 - share) + rows[:, high] * share).astype(np.uint8)


@functools.cache
def _context() -> Any:
    """The process's OpenGL context, made when it is first asked for and kept to the end.

    With software EGL, frames drawn after another context of the process was closed have been seen to be garbage.
    """
    require_rendering()
    try:
        context = mujoco.GLContext(RENDERS["official"].size, RENDERS["official"].size)
    except Exception as error:  # the backend's errors share no base class
        raise RenderError(f"cannot render off screen ({error}); `flexor doctor` tells what is missing") from error
    atexit.register(context.free)  # while Python is whole: freed at the very end it complains
    return context
