"""Images: fitted like openpi's client, scaled to [-1, 1]."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from flexor.pi05.images import resize_with_pad, to_model


def test_a_wide_frame_is_centred_between_black_bars() -> None:
    frame = np.full((2, 4, 3), 200, dtype=np.uint8)
    square = resize_with_pad(frame, 4)
    assert square.shape == (4, 4, 3)
    assert (square[[0, 3]] == 0).all()
    assert (square[1:3] == 200).all()


def test_a_tall_frame_with_an_odd_gap_has_the_smaller_bar_on_the_left() -> None:
    # 8 x 6 into 5: ratio 1.6, sides int(5.0) and int(3.75) = 3, so 2 columns are left over, 1 on each side.
    even = resize_with_pad(np.full((8, 6, 3), 90, dtype=np.uint8), 5)
    assert (even[:, [0, 4]] == 0).all() and (even[:, 1:4] == 90).all()
    # 8 x 4 into 5: sides 5 and int(2.5) = 2, so 3 columns are left over, int(1.5) = 1 on the left.
    odd = resize_with_pad(np.full((8, 4, 3), 90, dtype=np.uint8), 5)
    assert (odd[:, [0, 3, 4]] == 0).all() and (odd[:, 1:3] == 90).all()


def test_halving_averages_with_the_antialiased_triangle() -> None:
    # Output pixel 0 is centred between inputs 0 and 1 (at 1.0); a triangle of half-width 2 weighs the centres
    # 0.5, 1.5, 2.5 with 0.75, 0.75, 0.25 before normalisation.
    row = np.asarray([0, 100, 200, 40], dtype=np.uint8)
    frame = np.repeat(np.repeat(row[None, :, None], 4, axis=0), 3, axis=2)
    left = (0.75 * 0 + 0.75 * 100 + 0.25 * 200) / 1.75
    right = (0.25 * 100 + 0.75 * 200 + 0.75 * 40) / 1.75
    assert np.abs(resize_with_pad(frame, 2)[0, :, 0].astype(float) - [left, right]).max() <= 1.0


def test_enlarging_is_pillows_bilinear_filter() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(frame).resize((9, 9), Image.Resampling.BILINEAR))
    assert (resize_with_pad(frame, 9) == expected).all()


def test_a_frame_of_the_right_size_is_returned_untouched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    assert resize_with_pad(frame, 7) is frame


def test_a_very_thin_frame_keeps_one_row() -> None:
    square = resize_with_pad(np.full((1, 100, 3), 255, dtype=np.uint8), 8)
    assert (square.sum(axis=(1, 2)) > 0).sum() == 1


def test_pixels_become_planes_from_minus_one_to_one() -> None:
    images = np.zeros((2, 3, 3, 3), dtype=np.uint8)
    images[0, 1, 2] = (0, 128, 255)
    planes = to_model(images)
    assert planes.shape == (2, 3, 3, 3) and planes.dtype == np.float32 and planes.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(planes[0, :, 1, 2], [-1.0, 128 / 255 * 2 - 1, 1.0], atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (2, 4, 4, 3)])
def test_a_frame_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[height, width, 3\]"):
        resize_with_pad(np.zeros(shape, dtype=np.uint8), 4)


def test_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="image is float32"):
        resize_with_pad(np.zeros((4, 4, 3), dtype=np.float32), 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images are float32"):
        to_model(np.zeros((1, 4, 4, 3), dtype=np.float32))  # type: ignore[arg-type]
