"""From recorded good episodes to a calibration of their policy's scores."""

from __future__ import annotations

from collections.abc import Sequence

from flexor.runtime.episodes.score_trace import ScoreTrace
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.inference.conformal import SIGNED, CalibrationError, fewest


def calibrate(traces: Sequence[ScoreTrace], alpha: float) -> Calibration:
    """Calibrate on the successes among `traces` in which nobody helped; all other episodes are left out.

    The bound on false alarms holds for further episodes of the same mix of tasks in the same world: they must be
    exchangeable with these. A changed world breaks it, which is what the alarm is for.

    Args:
        alpha: share of good episodes that may raise a false alarm.

    Raises:
        CalibrationError: too few successes, successes at a domain shift or of more than one scoring, scores missing,
            or no threshold.
    """
    good = [trace for trace in traces if trace.good]
    if len(good) < fewest(alpha):
        raise CalibrationError(
            f"{len(good)} of {len(traces)} episodes succeeded without help; alpha {alpha:g} needs at least "
            f"{fewest(alpha)}: record more, or choose a larger alpha"
        )
    first = good[0].scoring
    for trace in good:
        if trace.shift != "none":
            raise CalibrationError(
                f"episode {trace.id} was recorded at shift {trace.shift}; calibrate where nothing is wrong, so that "
                "the alarm tells when something is"
            )
        if trace.scoring is None or first is None:
            raise CalibrationError(f"episode {trace.id} does not say how it was scored; record it anew")
        if differences := first.differences(trace.scoring):
            raise CalibrationError(
                f"episodes {good[0].id} and {trace.id} do not belong together: {'; '.join(differences)}; calibrate "
                "each kind alone"
            )
    assert first is not None  # fewest() is at least 1
    maxima = {}
    for score in SIGNED:
        tracks = [trace.tracks[score] for trace in good if score in trace.tracks]
        if len(tracks) == len(good):
            maxima[score] = [float(track.values.max()) for track in tracks]
        elif tracks:
            without = next(trace.id for trace in good if score not in trace.tracks)
            raise CalibrationError(
                f"episode {without} was not scored by {score} and others were; leave it out, or record it anew"
            )
    return Calibration.measure(first, maxima, alpha, [trace.task for trace in good], [trace.id for trace in good])
