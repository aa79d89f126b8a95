"""How far advice is a plan: of how many of a chunk's first actions.

At every step an adviser says what it would do where the *policy* has come to (flexor.runtime.driving.adviser). A row
of such answers is the adviser's own plan only as long as the arm goes where it would have gone: of an arm that stands
still it asks for the same way again and again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SLACK_M = 0.01
"""How far the arm may have come from where the advice would have brought it, by what both asked for."""


def advice_reach(labels: NDArray[np.float32], played: NDArray[np.float32], metres_per_unit: float) -> NDArray[np.int64]:
    """How many of a chunk's first labels are a plan, at least 1: int64 [n].

    Args:
        labels, played: float32 [n, H, A] in robot units, what was advised and what was done; the first three numbers
            move the gripper, the sign of the last closes it.
        metres_per_unit: how far 1 moves it.
    """
    apart = np.linalg.norm(np.cumsum(labels[..., :3] - played[..., :3], axis=1), axis=2) * metres_per_unit > SLACK_M
    apart |= np.logical_or.accumulate((labels[..., -1] > 0) != (played[..., -1] > 0), axis=1)
    # what the k-th action leads to is where the next one is said
    first = np.where(apart.any(axis=1), apart.argmax(axis=1), labels.shape[1])
    return np.minimum(first + 1, labels.shape[1])
