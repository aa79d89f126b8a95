"""From camera frames to what SigLIP reads. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_with_pad(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Fit a frame, uint8 [h, w, 3], into a black square, uint8 [size, size, 3], without changing its aspect.

    Pillow's antialiased bilinear filter, sides rounded down and the picture centred, as openpi's client does it. A
    frame that already has the size is returned as it is.

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
    fitted = Image.fromarray(image).resize((fitted_width, fitted_height), resample=Image.Resampling.BILINEAR)
    square = np.zeros((size, size, 3), dtype=np.uint8)
    top, left = (size - fitted_height) // 2, (size - fitted_width) // 2
    square[top : top + fitted_height, left : left + fitted_width] = np.asarray(fitted)
    return square


def to_model(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [V, S, S, 3] -> float32 [V, 3, S, S] in [-1, 1].

    Raises:
        ValueError: another dtype or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}; expected uint8 [cameras, size, size, 3]")
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    planes *= np.float32(2.0 / 255.0)
    planes -= np.float32(1.0)
    return planes
