"""Frames are varied as said, and not at all where nothing is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flexor.learner.augment import Photometry, shift, to_model
from flexor.pi05 import images as pi05_images

CPU = torch.device("cpu")


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 2, 16, 16, 3), dtype=np.uint8)


def test_without_photometry_a_batch_is_what_the_runtime_gives_the_model(frames: np.ndarray):
    expected = np.stack([pi05_images.to_model(sample) for sample in frames])
    np.testing.assert_allclose(to_model(frames, CPU).numpy(), expected, atol=1e-6)


def test_every_shifted_frame_is_a_window_of_the_frame_with_its_edge_repeated(frames: np.ndarray):
    shifted = shift(frames, np.random.default_rng(1), 3)
    places = set()
    for frame in np.ndindex(5, 2):
        padded = np.pad(frames[frame], ((3, 3), (3, 3), (0, 0)), mode="edge")
        windows = {(y, x): padded[y : y + 16, x : x + 16] for y in range(7) for x in range(7)}
        found = [place for place, window in windows.items() if np.array_equal(window, shifted[frame])]
        assert found
        places.update(found)
    assert len(places) > 5


def test_no_shift_is_no_change(frames: np.ndarray):
    np.testing.assert_array_equal(shift(frames, np.random.default_rng(1), 0), frames)


def test_factors_of_one_change_nothing(frames: np.ndarray):
    light = Photometry.draw(frames, np.random.default_rng(2), 0.0, 0.0, 0.0)
    np.testing.assert_allclose(to_model(frames, CPU, light), to_model(frames, CPU), atol=1e-6)


def test_photometry_is_brightness_contrast_and_colour_of_the_pixels_in_zero_to_one(frames: np.ndarray):
    light = Photometry.draw(frames, np.random.default_rng(3), 0.2, 0.3, 0.1)
    # the same draws, in the same order, applied plainly
    rng = np.random.default_rng(3)
    bright, steep, channel = (
        rng.uniform(0.8, 1.2, (5, 2)),
        rng.uniform(0.7, 1.3, (5, 2)),
        rng.uniform(0.9, 1.1, (5, 2, 3)),
    )
    x = frames / 255.0
    mean = x[:, :, ::4, ::4].mean(axis=(2, 3, 4), keepdims=True)
    contrasted = mean + steep[..., None, None, None] * (x - mean)
    plain = channel[:, :, None, None] * bright[..., None, None, None] * contrasted
    expected = np.clip(plain * 2 - 1, -1, 1).transpose(0, 1, 4, 2, 3)
    np.testing.assert_allclose(to_model(frames, CPU, light), expected, atol=1e-5)
