"""Lens: what lies between a camera and its frames in a shifted episode: one of LIBERO-Plus' five blurs, and grain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from flexor.sim.libero.shift.draw import LiberoDraw
from flexor.sim.libero.shift.table import BLUR_PER_SEVERITY
from flexor.sim.scenes import AGENT_CAMERA

Frame = NDArray[np.uint8]
SIZE = 256  # px of the frames that a unit of severity is told for
COPIES = 7  # that a streak, or a zoom, is the mean of
FOG_CELLS, GLASS_CELLS = 8, 64  # along a side


class Lens:
    """One episode's; the same camera and step give the same noise."""

    def __init__(self, drawn: LiberoDraw) -> None:
        self._severity, self._grain, self._seed, self._blur = drawn.severity, drawn.grain, drawn.blur_seed, drawn.blur
        rng = np.random.default_rng(self._seed)
        self._angle = float(rng.uniform(0.0, np.pi))
        self._fog_pattern = rng.random((FOG_CELLS, FOG_CELLS), dtype=np.float32)
        self._glass_patterns = rng.random((2, GLASS_CELLS, GLASS_CELLS), dtype=np.float32)

    def look(self, frame: Frame, camera: str, step: int) -> Frame:
        """The frame, uint8 [n, n, 3], as the policy gets it in a control step."""
        if not self._blur:
            return frame
        if camera == AGENT_CAMERA:
            frame = getattr(self, f"_{self._blur}")(frame, self._severity * BLUR_PER_SEVERITY[self._blur])
        rng = np.random.default_rng([self._seed, step, camera == AGENT_CAMERA])
        noise = rng.standard_normal(frame.shape, dtype=np.float32) * self._grain
        return _whole(frame + noise)

    def _motion(self, frame: Frame, length: float) -> Frame:
        way = np.array([np.cos(self._angle), np.sin(self._angle)]) * length * frame.shape[0] / SIZE
        shifts = [np.rint(way * share).astype(int) for share in np.linspace(-0.5, 0.5, COPIES)]
        margin = int(np.abs(shifts).max())
        wide = np.pad(frame, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        height, width = frame.shape[:2]
        copies = [wide[margin + y : margin + y + height, margin + x : margin + x + width] for x, y in shifts]
        return _whole(np.stack(copies).mean(axis=0, dtype=np.float32))

    def _gaussian(self, frame: Frame, sigma: float) -> Frame:
        return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma * frame.shape[0] / SIZE)))

    def _zoom(self, frame: Frame, enlargement: float) -> Frame:
        image, (height, width) = Image.fromarray(frame), frame.shape[:2]
        copies = []
        for share in np.linspace(0.0, 1.0, COPIES):
            cut = 0.5 - 0.5 / (1.0 + enlargement * share)
            box = (cut * width, cut * height, (1.0 - cut) * width, (1.0 - cut) * height)
            copies.append(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box)))
        return _whole(np.stack(copies).mean(axis=0, dtype=np.float32))

    def _fog(self, frame: Frame, white: float) -> Frame:
        thick = white * (0.5 + _smooth(self._fog_pattern, frame.shape[0]))[..., None]
        return _whole(frame + (255.0 - frame) * np.clip(thick, 0.0, 1.0))

    def _glass(self, frame: Frame, reach: float) -> Frame:
        side = frame.shape[0]
        bent = [2.0 * reach * side / SIZE * (_smooth(pattern, side) - 0.5) for pattern in self._glass_patterns]
        rows, columns = np.indices((side, side), dtype=np.float32)
        down, right = np.rint(rows + bent[0]), np.rint(columns + bent[1])
        return frame[np.clip(down, 0, side - 1).astype(int), np.clip(right, 0, side - 1).astype(int)]


def _smooth(pattern: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The pattern, larger: float32 [side, side], about in [0, 1]."""
    return np.asarray(Image.fromarray(pattern).resize((side, side), Image.Resampling.BICUBIC))


def _whole(frame: Any) -> Frame:
    return np.rint(np.clip(frame, 0.0, 255.0)).astype(np.uint8)
