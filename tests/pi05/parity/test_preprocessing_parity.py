"""What flexor makes of frames, states and sentences before the model, against openpi's (docs/parity.md)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from pi05.parity.preprocessing_cases import FRAMES, SENTENCES, STATES, frame, statistics, values
from pi05.parity.records import DATA

from flexor.pi05.images import resize_with_pad, to_model
from flexor.pi05.normalize import Mode, Normalizer, NormStats
from flexor.pi05.prompt import FORMATS, discretise


@pytest.fixture(scope="module")
def theirs() -> dict[str, NDArray]:
    with np.load(DATA / "preprocessing.npz", allow_pickle=False) as stored:
        return dict(stored)


@pytest.mark.parametrize("index", range(len(FRAMES)), ids=[f"{h}x{w}-{side}" for h, w, side in FRAMES])
def test_frames_are_fitted_pixel_for_pixel(theirs: dict[str, NDArray], index: int) -> None:
    height, width, side = FRAMES[index]
    assert np.array_equal(resize_with_pad(frame(height, width), side), theirs[f"resized_{index}"])


def test_every_byte_is_scaled_alike(theirs: dict[str, NDArray]) -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    ours = to_model([image])[0, 0].ravel()
    assert theirs["scaled"].dtype == np.float32
    assert np.abs(ours - theirs["scaled"]).max() <= 2**-23  # the last place of 1: ours multiplies once


def test_prompts_are_cut_into_the_same_pieces(theirs: dict[str, NDArray]) -> None:
    expected = iter(theirs["pieces"].tolist())
    asked = itertools.product(SENTENCES, STATES)
    for (sentence, state), count in zip(asked, theirs["piece_counts"], strict=True):
        bins = None if state is None else discretise(np.array(state, dtype=np.float32))
        assert FORMATS["openpi"].pieces(sentence, bins) == tuple(itertools.islice(expected, int(count)))
    assert not list(expected)


@pytest.mark.parametrize("mode", ["quantile", "mean_std"])
def test_values_are_normalised_and_back(theirs: dict[str, NDArray], mode: Mode) -> None:
    normalizer = Normalizer(mode, NormStats(**statistics(7)))
    # float32 is what both models are given; a channel that never moves is divided by 1e-6.
    np.testing.assert_allclose(normalizer.normalize(values(7, 20)), theirs[mode].astype(np.float32), rtol=3e-7)
    back, expected = normalizer.unnormalize(values(32, 5)), theirs[f"back_{mode}"].astype(np.float32)
    np.testing.assert_allclose(back[:, :7], expected[:, :7], rtol=3e-7, atol=1e-7)
    # openpi multiplies the padding, which nobody reads, by 1 + 1e-6 in one of the modes.
    np.testing.assert_allclose(back[:, 7:], expected[:, 7:], rtol=2e-6)
