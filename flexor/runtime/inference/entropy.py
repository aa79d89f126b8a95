"""How unsure a policy is: ACE in bits, Gaussian nats, and accel from the velocities of a single chunk.

All are raw scores; none knows what is too much. numpy only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLES = 8  # N of ace_bits and gauss_nats; the ceiling of ace_bits is log2 N = 3 bits
CELL = 0.03  # side of an ACE cell as a share of the workspace's side
ESTIMATOR = 1  # version of the scores: a change of any number here or below makes earlier thresholds void
VARIANCE_FLOOR = 1e-6  # normalised units squared: identical samples give a finite score


def ace_bits(translations: NDArray[np.floating], metres_per_unit: float, workspace: NDArray[np.floating]) -> float:
    """Action-chunk entropy: how many different places the sampled chunks would take the gripper to.

    At each step the N integrated displacements are binned in a grid whose origin is their lowest corner; the score is
    the mean over steps of the Shannon entropy of the cell counts (FIPER, arXiv 2510.09459, on displacements in metres).

    Args:
        translations: [N, T, 3], translation commands in robot units of the T steps that count, from the first step
            that the samples do not share.
        metres_per_unit: metres that a command of 1 moves the gripper.
        workspace: [2, 3], lowest and highest position in metres.

    Returns:
        Bits, 0 (all alike) to log2 N (all different).

    Raises:
        ValueError: wrong shape, fewer than 2 samples, no step, or a number that is not finite.
    """
    translations = _checked("translations", translations)
    workspace = np.asarray(workspace, np.float64)
    if translations.shape[2] != 3 or workspace.shape != (2, 3):
        raise ValueError(
            f"translations are {translations.shape} and the workspace is {workspace.shape}; expected [N, T, 3], [2, 3]"
        )
    places = np.cumsum(translations, axis=1) * metres_per_unit
    cells = np.floor((places - places.min(axis=0)) / (CELL * (workspace[1] - workspace[0]))).astype(np.int64)
    samples, steps, _ = cells.shape
    # same[n, m, t]: sample m is in sample n's cell at step t. The mean of -log2 p over samples is the entropy.
    same = (cells[:, None] == cells[None]).all(axis=3)
    share = same.sum(axis=1) / samples
    return float(-np.log2(share).sum() / (samples * steps)) + 0.0  # + 0.0 turns -0.0 into 0.0


def gauss_nats(actions: NDArray[np.floating]) -> float:
    """Entropy of a diagonal Gaussian fitted to the samples: mean over steps of 1/2 sum_j ln(2 pi e (s_j^2 + floor)).

    s_j^2 is the unbiased variance over samples. Biased low for few samples, and it may well be negative.

    Args:
        actions: [N, T, A] in normalised units, the T steps that count.

    Returns:
        Nats of one step's action.

    Raises:
        ValueError: wrong shape, fewer than 2 samples, no step, or a number that is not finite.
    """
    variance = _checked("actions", actions).var(axis=0, ddof=1)
    return float(0.5 * np.log(2 * np.pi * np.e * (variance + VARIANCE_FLOOR)).sum(axis=1).mean())


def accel(velocities: NDArray[np.floating]) -> float:
    """How much the flow bends on its way from noise to actions: a free proxy of the spread of samples.

    p sum_{t=1}^{p-1} |v_t - v_{t-1}| / sum_{t=0}^{p-1} |v_t| over the first p = T - 1 Euler steps, 2 at least: the
    last step is dominated by discretisation (arXiv 2607.27933). The norm is over all rows and dimensions given.

    Args:
        velocities: [T, R, A] of one sample in flow order, only the R rows that are executed and not clamped.

    Returns:
        0 for a straight flow at constant speed, growing with its bends.

    Raises:
        ValueError: wrong shape, fewer than 2 flow steps, no row, velocities that are all zero or not finite.
    """
    path = _checked("velocities", velocities)
    path = path[: max(2, len(path) - 1)].reshape(-1, path.shape[1] * path.shape[2])
    length = np.linalg.norm(path, axis=1).sum()
    if length == 0.0:
        raise ValueError("the velocities are all zero, so accel is not defined; the expert's output layer does nothing")
    return float(len(path) * np.linalg.norm(np.diff(path, axis=0), axis=1).sum() / length)


def _checked(what: str, values: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or values.shape[0] < 2 or 0 in values.shape:
        raise ValueError(f"{what} have shape {values.shape}; expected three axes, at least 2 entries along the first")
    if not np.isfinite(values).all():
        raise ValueError(f"{what} hold numbers that are not finite; a score of them would mean nothing")
    return values
