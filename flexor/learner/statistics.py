"""Normalisation of a training set: quantiles with a floor, so that a nearly constant channel stays nearly constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flexor.pi05.normalize import NormStats

STATE_FLOOR = 0.01  # m or rad; the fingers' whole travel is 0.04 m
ACTION_FLOOR = 0.05  # of a command's range of 2


def measure_statistics(states: NDArray[np.float32], actions: NDArray[np.float32]) -> dict[str, NormStats]:
    """Statistics "state" of [n, S] and "actions" of chunks [n, H, A], whose last channel is the gripper.

    The gripper is commanded -1 or +1; its quantiles are set to just that, whatever share of the time it is closed.
    """
    measured = NormStats.measure(actions.reshape(-1, actions.shape[-1]), floor=ACTION_FLOOR)
    low, high = measured.q01.copy(), measured.q99.copy()
    low[-1], high[-1] = -1.0, 1.0
    return {
        "state": NormStats.measure(states, floor=STATE_FLOOR),
        "actions": replace(measured, q01=low, q99=high),
    }
