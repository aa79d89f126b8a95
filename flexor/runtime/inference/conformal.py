"""Split conformal prediction: from the scores of good episodes to a threshold whose false alarms are bounded.

The unit is the episode, because that is what an operator counts: with the threshold at the order statistic
ceil((M + 1)(1 - alpha)) of the M per-episode maxima, a further good episode of the same kind raises an alarm anywhere
in it with probability alpha at most (Vovk, Gammerman and Shafer, 2005). numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexor.errors import FlexorError

ALARM = 2.0
"""A calibrated score above this is an alarm."""

SIGNED = {"ace_bits": False, "accel": False, "gauss_nats": True}
"""The scores that can be calibrated, and whether they can be negative."""

SATURATED = 0.95  # share of the ceiling log2 N above which a threshold of ace_bits cannot be told from the ceiling
_SLACK = 1e-9  # (M + 1)(1 - alpha) of whole numbers must not be rounded up for the sake of its last bit


class CalibrationError(FlexorError):
    """Scores that give no threshold, or a calibration that cannot be used here."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where the alarm of one score lies.

    Attributes:
        tau: in the score's own unit.
        sigma: standard deviation of the per-episode maxima of a signed score; None for a score that is never negative.
    """

    tau: float
    sigma: float | None = None

    def calibrated(self, raw: float) -> float:
        """The score on the scale where more than 2.0 is an alarm: 2 s / tau, or 2 + (s - tau) / sigma when signed.

        Raises:
            CalibrationError: a score that is not finite; it is no sign of certainty.
        """
        if not math.isfinite(raw):
            raise CalibrationError(f"a score is {raw}, which cannot be calibrated; the policy's samples are not finite")
        if self.sigma is None:
            return ALARM * raw / self.tau
        return ALARM + (raw - self.tau) / self.sigma


def fewest(alpha: float) -> int:
    """The least M for which a threshold exists: ceil(1 / alpha) - 1 good episodes.

    Raises:
        CalibrationError: alpha is not between 0 and 1.
    """
    if not 0.0 < alpha < 1.0:
        raise CalibrationError(f"alpha is {alpha}; expected a share of false alarms between 0 and 1, for example 0.1")
    return max(1, math.ceil(1.0 / alpha - _SLACK) - 1)


def conformal_quantile(maxima: Sequence[float], alpha: float) -> float:
    """The ceil((M + 1)(1 - alpha))-th smallest of M values.

    Raises:
        CalibrationError: too few values for this alpha, or one that is not finite.
    """
    needed = fewest(alpha)
    if len(maxima) < needed:
        raise CalibrationError(
            f"{len(maxima)} good episodes are too few for alpha {alpha:g}; expected at least {needed}: record more, or "
            "choose a larger alpha"
        )
    values = np.sort(np.asarray(maxima, np.float64))
    if not np.isfinite(values).all():
        raise CalibrationError("a calibration score is not finite; leave that episode out, its policy was at fault")
    rank = math.ceil((len(values) + 1) * (1.0 - alpha) - _SLACK)
    return float(values[max(rank, 1) - 1])


def threshold(score: str, maxima: Sequence[float], alpha: float, samples: int) -> Threshold:
    """The threshold of one score.

    Args:
        score: a key of SIGNED.
        maxima: its largest value in each good episode.
        alpha: share of good episodes that may raise a false alarm.
        samples: N of ace_bits, whose ceiling is log2 N.

    Raises:
        CalibrationError: an unknown score, what conformal_quantile raises, or a threshold that means nothing: 0, at
            the ceiling of the score, or of a score that never varies.
    """
    if score not in SIGNED:
        raise CalibrationError(f"unknown score {score!r}; expected one of {', '.join(SIGNED)}")
    tau = conformal_quantile(maxima, alpha)
    if SIGNED[score]:
        sigma = float(np.std(np.asarray(maxima, np.float64), ddof=1)) if len(maxima) > 1 else 0.0
        if sigma <= _SLACK:
            raise CalibrationError(
                f"{score} has the same maximum {tau:g} in every good episode, so its scale is 0; is the policy sampled?"
            )
        return Threshold(tau, sigma)
    if tau <= 0.0:
        raise CalibrationError(
            f"the threshold of {score} is {tau:g}: the samples of good episodes never differ, and every doubt would be "
            "an alarm; go without a calibration of this score"
        )
    if score == "ace_bits" and tau > (limit := SATURATED * math.log2(samples)):
        raise CalibrationError(
            f"the threshold of ace_bits is {tau:.3f} bits, above {limit:.3f} = {SATURATED} log2 N of {samples} samples:"
            " good episodes are at the ceiling already, so no alarm could tell them from others; go without"
        )
    return Threshold(tau)
