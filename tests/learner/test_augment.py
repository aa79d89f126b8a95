"""Frames are varied as said, and not at all where nothing is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flexor.learner.augment import Photometry, doubt, paste, shift, to_model
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


def test_pasted_things_are_few_of_one_colour_each_and_no_larger_than_said():
    frames = np.full((60, 2, 32, 32, 3), 7, np.uint8)
    pasted = paste(frames, np.random.default_rng(1), 1, 6)
    counts, shapes = [0, 0], set()
    for frame in pasted.reshape(-1, 32, 32, 3):
        changed = (frame != 7).any(axis=2)
        colours = np.unique(frame[changed], axis=0)
        assert len(colours) <= 1
        counts[len(colours)] += 1
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert high <= 6 and wide <= 6
            shapes.add(bool(changed.sum() == high * wide))
    assert min(counts) > 30 and shapes == {True, False}  # boxes and ellipses
    assert (frames == 7).all()


def test_nothing_is_pasted_where_nothing_is_asked_for(frames: np.ndarray):
    assert paste(frames, np.random.default_rng(1), 0, 6) is frames


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


def test_doubted_actions_are_moved_alike_in_a_chunk_and_differently_between_chunks():
    committed = np.zeros((400, 10, 7), np.float32)
    moved = doubt(committed, np.random.default_rng(0), 0.3, 0.0)
    assert np.ptp(moved, axis=1).max() == 0.0
    assert moved[:, 0].std() == pytest.approx(0.3, rel=0.05)
    assert moved.dtype == np.float32


def test_a_share_of_the_doubted_chunks_shows_the_other_gripper_command_and_nothing_else():
    committed = np.ones((1000, 10, 7), np.float32)
    turned = doubt(committed, np.random.default_rng(0), 0.0, 0.15)
    assert (turned[..., :6] == 1.0).all()
    assert 0.1 < (turned[:, 0, 6] == -1.0).mean() < 0.2
    np.testing.assert_array_equal(turned[:, :, 6], turned[:, :1, 6].repeat(10, axis=1))


def test_without_doubt_committed_actions_are_untouched():
    committed = np.random.default_rng(1).normal(size=(4, 10, 7)).astype(np.float32)
    np.testing.assert_array_equal(doubt(committed, np.random.default_rng(0), 0.0, 0.0), committed)
