"""Varies the frames of a batch, so that light, colour and a camera moved by a hair mean nothing to the policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Photometry:
    """An affine change of every frame and channel, `gain * x + bias` on pixel values in [-1, 1].

    Attributes:
        gain, bias: float32 [B, V, 3, 1, 1].
    """

    gain: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def draw(
        cls, images: NDArray[np.uint8], rng: np.random.Generator, brightness: float, contrast: float, colour: float
    ) -> Photometry:
        """Brightness and contrast for each frame of `images` [B, V, S, S, 3], colour for each channel.

        With x in [0, 1] and m the mean of its frame: y = channel * (brightness * (m + contrast * (x - m))).
        """
        frames = images.shape[:2]
        mean = images[:, :, ::4, ::4].mean(axis=(2, 3, 4), dtype=np.float32) / 255.0  # every 16th pixel is enough
        bright = rng.uniform(1 - brightness, 1 + brightness, frames)
        steep = rng.uniform(1 - contrast, 1 + contrast, frames)
        channel = rng.uniform(1 - colour, 1 + colour, (*frames, 3))
        gain = channel * (bright * steep)[..., None]
        offset = channel * (bright * (1 - steep) * mean)[..., None]
        # [0, 1] -> [-1, 1]: with x = (z + 1) / 2 the slope stays and the offset becomes gain + 2 * offset - 1
        bias = gain + 2 * offset - 1
        return cls(gain[..., None, None].astype(np.float32), bias[..., None, None].astype(np.float32))


def shift(images: NDArray[np.uint8], rng: np.random.Generator, pixels: int) -> NDArray[np.uint8]:
    """Move every frame of uint8 [B, V, S, S, 3] by up to `pixels` along both axes, repeating its edge."""
    if pixels == 0:
        return images
    size = images.shape[2]
    shifted = np.empty_like(images)
    offsets = rng.integers(0, 2 * pixels + 1, (*images.shape[:2], 2))
    for frame in np.ndindex(*images.shape[:2]):
        down, right = offsets[frame]
        padded = np.pad(images[frame], ((pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
        shifted[frame] = padded[down : down + size, right : right + size]
    return shifted


def paste(images: NDArray[np.uint8], rng: np.random.Generator, things: int, size: int) -> NDArray[np.uint8]:
    """Lay up to `things` boxes and ellipses, each of one colour, into every frame of uint8 [B, V, S, S, 3].

    After random erasing (Zhong et al., arXiv 1708.04896): what else lies on the table means nothing.

    Args:
        things: largest number of them in a frame; each number from 0 on is as likely.
        size: largest width and height, pixels.
    """
    if things == 0:
        return images
    pasted, side = images.copy(), images.shape[2]
    for frame in np.ndindex(*images.shape[:2]):
        for _ in range(int(rng.integers(0, things + 1))):
            middle, half = rng.uniform(0, side, 2), rng.uniform(1, size / 2, 2)
            low, high = np.maximum(np.ceil(middle - half), 0).astype(int), np.ceil(middle + half).astype(int)
            window = pasted[frame][low[0] : high[0], low[1] : high[1]]
            down, right = np.ogrid[: window.shape[0], : window.shape[1]]
            off = ((down + low[0] - middle[0]) / half[0]) ** 2 + ((right + low[1] - middle[1]) / half[1]) ** 2
            window[off <= (1.0 if rng.random() < 0.5 else np.inf)] = rng.integers(0, 256, 3)
    return pasted


def doubt(committed: NDArray[np.float32], rng: np.random.Generator, noise: float, flips: float) -> NDArray[np.float32]:
    """Make committed actions as little to be relied on as those of a chunk that the policy itself made a while ago.

    Args:
        committed: [B, H, A], normalised; the last number is the gripper.
        noise: standard deviation of what is added, the same on all actions of a chunk.
        flips: share of the chunks whose gripper command is turned round.

    Returns:
        A changed copy, float32 [B, H, A].
    """
    count, _, dim = committed.shape
    doubted = committed + rng.normal(0.0, noise, (count, 1, dim)).astype(np.float32)
    turned = rng.random(count) < flips
    doubted[turned, :, -1] *= -1.0
    return doubted


def to_model(images: NDArray[np.uint8], device: torch.device, photometry: Photometry | None = None) -> Tensor:
    """uint8 [B, V, S, S, 3] -> float32 [B, V, 3, S, S] in [-1, 1] on `device`, as pi05.images.to_model for one look."""
    pixels = torch.from_numpy(images).to(device).permute(0, 1, 4, 2, 3)
    scaled = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)
    if photometry is None:
        return scaled
    gain, bias = (torch.from_numpy(part).to(device) for part in (photometry.gain, photometry.bias))
    return scaled.mul_(gain).add_(bias).clamp_(-1.0, 1.0)
