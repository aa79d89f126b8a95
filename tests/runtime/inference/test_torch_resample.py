"""PyTorch's resampling of frames against Pillow's, which is the formula."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flexor.pi05.images import pillow_resample
from flexor.runtime.inference.torch_resample import torch_resample


def frames(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Noise, a smooth picture, and one colour."""
    rng = np.random.default_rng(height + width)
    walk = np.cumsum(rng.integers(-3, 4, (height, width, 3)), axis=1) + 128
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    return [noise, np.clip(walk, 0, 255).astype(np.uint8), np.full_like(noise, 201)]


@pytest.mark.parametrize("side", [128, 224])
def test_what_the_embedded_policy_sees_has_the_very_same_pixels(side: int) -> None:
    for frame in frames(side, side):
        assert np.array_equal(torch_resample(frame, 96, 96), pillow_resample(frame, 96, 96))


@pytest.mark.parametrize(("height", "width", "to"), [(256, 256, (224, 224)), (480, 640, (168, 224)), (61, 47, (13, 9))])
def test_other_sizes_differ_by_two_levels_at_most_and_seldom(height: int, width: int, to: tuple[int, int]) -> None:
    for frame in frames(height, width):
        apart = np.abs(torch_resample(frame, *to).astype(int) - pillow_resample(frame, *to))
        assert apart.max() <= 2 and (apart > 0).mean() < 0.01


def test_enlarging_is_pillows() -> None:
    for frame in frames(40, 30):
        assert np.array_equal(torch_resample(frame, 96, 72), pillow_resample(frame, 96, 72))


def test_a_frame_that_may_not_be_written_and_one_that_is_upside_down_are_read_as_they_are() -> None:
    frame = frames(128, 128)[0]
    for seen in (frame[::-1, ::-1], np.frombuffer(frame.tobytes(), np.uint8).reshape(frame.shape)):
        assert np.array_equal(torch_resample(seen, 96, 96), pillow_resample(seen, 96, 96))
