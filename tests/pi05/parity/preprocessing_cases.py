"""What both preprocessings are given: frames of many shapes, states at the edges of the bins, statistics, sentences."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

# (height, width, side of the square): shrunk, grown, upright, wide, odd bars, a line, already square, already there.
FRAMES = (
    (64, 64, 56),
    (120, 160, 56),
    (160, 120, 56),
    (37, 53, 40),
    (20, 31, 40),
    (3, 90, 40),
    (97, 41, 48),
    (48, 48, 48),
)
SENTENCES = (
    "put the bowl on the plate",
    "  pick_up\nthe black bowl \n",
    "turn on the stove_and put the moka pot on it",
    "Ünïcode: {text} {state}, 12",
)
STATES: tuple[tuple[float, ...] | None, ...] = (
    None,
    (-1.0, 1.0, 0.0, -0.5, 0.5, 0.9921875, 0.99999, -1.0000001),
    (1.5, -1.5, 7.0, -7.0, 1e-9, -1e-9, 0.0078125, -0.0078125),
    (-0.9921875, -0.99218756, -0.9921874, 0.98437494, 0.984375, 0.98437506, 0.123456, -0.654321),
)


def frame(height: int, width: int) -> NDArray[np.uint8]:
    """Noise over a chequerboard, uint8 [height, width, 3]."""
    draw = _seeded(f"frame {height} {width}")
    board = (np.arange(height)[:, None] // 7 + np.arange(width) // 7) % 2 * 190
    return (board[..., None] + draw.integers(0, 66, (height, width, 3))).astype(np.uint8)


def statistics(dim: int) -> dict[str, NDArray[np.float64]]:
    """mean, std, q01, q99 of `dim` channels; the last never moves."""
    draw = _seeded("statistics")
    q01, span = draw.normal(size=dim), draw.uniform(0.01, 3.0, size=dim)
    span[-1] = 0.0
    return {"mean": q01 + 0.4 * span, "std": 0.3 * span, "q01": q01, "q99": q01 + span}


def values(dim: int, count: int) -> NDArray[np.float64]:
    """What is normalised, some of it far outside, [count, dim]."""
    return _seeded("values").normal(scale=2.0, size=(count, dim))


def _seeded(what: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(what.encode())))
