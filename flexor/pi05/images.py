"""From camera frames to what SigLIP reads. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Resample = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]
"""Antialiased bilinear resize of uint8 [h, w, 3] to a height and a width; the result may be read-only."""


def pillow_resample(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A Resample by Pillow, the reference of all others."""
    return np.asarray(Image.fromarray(image).resize((width, height), resample=Image.Resampling.BILINEAR))


def resize_with_pad(image: NDArray[np.uint8], size: int, resample: Resample = pillow_resample) -> NDArray[np.uint8]:
    """Fit a frame, uint8 [h, w, 3], into a black square, uint8 [size, size, 3], without changing its aspect.

    Pillow's antialiased bilinear filter (or `resample`), sides rounded down and the picture centred, as openpi's client
    does it. A frame that already has the size is returned as it is; others may come back read-only.

    Raises:
        ValueError: another dtype or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; expected uint8 [height, width, 3]")
    height, width = image.shape[:2]
    if height == size and width == size:
        return image
    ratio = max(width / size, height / size)
    fitted_height, fitted_width = max(1, int(height / ratio)), max(1, int(width / ratio))
    fitted = resample(image, fitted_height, fitted_width)
    if fitted_height == size and fitted_width == size:
        return fitted
    square = np.zeros((size, size, 3), dtype=np.uint8)
    top, left = (size - fitted_height) // 2, (size - fitted_width) // 2
    square[top : top + fitted_height, left : left + fitted_width] = fitted
    return square


def to_model(images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """uint8 [V, S, S, 3], or V frames of uint8 [S, S, 3], -> float32 [V, 3, S, S] in [-1, 1].

    Raises:
        ValueError: another dtype or shape, or none at all.
    """
    shape = images[0].shape if len(images) else ()
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != shape:
            found = f"{image.dtype} {[len(images), *image.shape]}"
            raise ValueError(f"images are {found}; expected uint8 [cameras, size, size, 3]")
    if not shape:
        raise ValueError("images are none; expected uint8 [cameras, size, size, 3]")
    planes = np.empty((len(images), 3, *shape[:2]), np.float32)
    for plane, image in zip(planes, images, strict=True):
        np.multiply(image.transpose(2, 0, 1), np.float32(2.0 / 255.0), out=plane, dtype=np.float32)
    planes -= np.float32(1.0)
    return planes
