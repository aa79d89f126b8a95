"""What the scores are worth: how often, how early and at what price of false alarms they foresee a failure.

Thresholds are split-conformal quantiles of a random half of the successes; false alarms are counted on the other half,
detections on the failures. This is repeated with other halves and resampled episodes, which gives the intervals.

A failure lasts until the time limit and a success does not, so a timer finds every failure in the end. Three things
keep the comparison fair: what is found *in time*, before the timer itself would tell; the time that an alarm is ahead
of the timer's; and the AUROC at equal elapsed time, in which a timer has 0.5 by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.episodes.score_trace import OVERLAP, TIMER, ScoreTrace, Track
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.inference.conformal import ALARM, CalibrationError, Threshold, conformal_quantile, fewest
from flexor.runtime.inference.detectors import DETECTORS, NEED_REFERENCE, Reference
from flexor.runtime.metrics import wilson

SCORES = ("ace_bits", "gauss_nats", "accel", OVERLAP)
CURVE_POINTS = 41
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """The running maximum of a detector over one episode: what a threshold is compared with.

    Attributes:
        steps: int64 [C], increasing.
        highest: float64 [C], never decreasing.
    """

    steps: Ints
    highest: Floats

    def by(self, step: float | Ints) -> Any:
        """Its value at `step`; minus infinity before the first score."""
        index = np.searchsorted(self.steps, step, "right") - 1
        return np.where(index >= 0, self.highest[np.maximum(index, 0)], -np.inf)

    def alarm(self, threshold: float) -> int | None:
        """The first step above `threshold`."""
        index = int(np.searchsorted(self.highest, threshold, "right"))
        return None if index == len(self.highest) else int(self.steps[index])


def suspicion(track: Track, detector: str, reference: Reference) -> Suspicion:
    """What `detector` makes of one score of one episode."""
    return Suspicion(track.steps, np.maximum.accumulate(DETECTORS[detector](track.values, reference)))


def equal_time_auroc(failures: Sequence[Suspicion], successes: Sequence[Suspicion], ends: Ints) -> float:
    """P(a failure is more suspect than a success) at the moment at which the success ends; a tie counts half.

    Args:
        ends: int64 [len(successes)], last control step of each success.
    """
    good = np.array([found.highest[-1] for found in successes])
    bad = np.stack([found.by(ends) for found in failures])
    return float(np.mean(bad > good) + 0.5 * np.mean(bad == good))


class AlarmStudy:
    """Every score with every detector on one set of episodes. The same seed gives the same numbers."""

    def __init__(self, traces: Sequence[ScoreTrace], alpha: float, repeats: int, seed: int) -> None:
        """
        Args:
            traces: successes and failures; others are left out. Scores that not every one has are left out too.
            alpha: share of successes that may raise a false alarm.
            repeats: how often the successes are split.

        Raises:
            CalibrationError: too few successes for a calibration half and as many to test on, or no failure.
        """
        self.successes = [trace for trace in traces if trace.good]
        self.failures = [trace for trace in traces if trace.outcome == "failure"]
        self.left_out = len(traces) - len(self.successes) - len(self.failures)
        if len(self.successes) < (needed := 2 * fewest(alpha)) or not self.failures:
            raise CalibrationError(
                f"{len(self.successes)} successes and {len(self.failures)} failures; a study at alpha {alpha:g} needs "
                f"at least {needed} successes and 1 failure: record more episodes, at a shift where some fail"
            )
        self.alpha, self.repeats, self.seed = alpha, repeats, seed
        known = set.intersection(*(set(trace.tracks) for trace in self.successes + self.failures))
        self.scores = tuple(score for score in SCORES if score in known)
        self.hz = self.failures[0].hz
        self._ends = np.array([trace.length - 1 for trace in self.successes])
        self._limit = max(trace.length for trace in self.successes + self.failures)

    def run(self, watch: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
        """The whole table; `watch` is told how far it is.

        Returns:
            episodes, successes, failures, left_out, alpha, repeats, seed, curve_s (seconds) and rows, one a score and
            detector: tpr, fpr, early (alarm before the decisive moment), tpr_in_time, fpr_in_time, auroc_equal_time,
            each with its *_ci95; lead_s and ahead_s (quartiles in seconds before the decisive moment, and before the
            timer's alarm, of the alarms that came before), detected (share of failures by curve_s).
        """
        kinds = [(score, detector) for score in self.scores for detector in DETECTORS] + [(TIMER, "latest")]
        curve = np.linspace(0, self._limit, CURVE_POINTS)
        rows = []
        for number, (score, detector) in enumerate(kinds, start=1):
            generator = np.random.default_rng(self.seed)  # every row sees the same halves and the same episodes
            always = None if detector in NEED_REFERENCE else self._suspicions(score, detector, Reference(0.0, 1.0))
            draws = [self._draw(score, detector, always, curve, generator) for _ in range(self.repeats)]
            rows.append({"score": score, "detector": detector, **_summary(draws)})
            watch(number, len(kinds))
        return {
            "episodes": len(self.successes) + len(self.failures),
            "successes": len(self.successes),
            "failures": len(self.failures),
            "left_out": self.left_out,
            "alpha": self.alpha,
            "repeats": self.repeats,
            "seed": self.seed,
            "curve_s": (curve / self.hz).tolist(),
            "rows": rows,
        }

    def _suspicions(self, score: str, detector: str, reference: Reference) -> tuple[list[Suspicion], list[Suspicion]]:
        """Of all successes and all failures."""
        good = [suspicion(trace.tracks[score], detector, reference) for trace in self.successes]
        return good, [suspicion(trace.tracks[score], detector, reference) for trace in self.failures]

    def _draw(
        self,
        score: str,
        detector: str,
        always: tuple[list[Suspicion], list[Suspicion]] | None,
        curve: Floats,
        generator: np.random.Generator,
    ) -> dict[str, Any]:
        """One split: thresholds from one half, counted on resampled episodes of the other and resampled failures.

        `always`: the suspicions, where they do not depend on the calibration half.
        """
        order = generator.permutation(len(self.successes))
        half, rest = np.split(order, [(len(order) + 1) // 2])
        tested = generator.choice(rest, len(rest))
        failed = generator.choice(len(self.failures), len(self.failures))
        if always is None:
            ordinary = np.concatenate([self.successes[index].tracks[score].values for index in half])
            always = self._suspicions(score, detector, Reference.of(ordinary))
        calibration, good = [always[0][index] for index in half], [always[0][index] for index in tested]
        bad = [always[1][index] for index in failed]

        timer = conformal_quantile(self._ends[half].tolist(), self.alpha)  # the timer tells after this step
        whole = conformal_quantile([found.highest[-1] for found in calibration], self.alpha)
        in_time = conformal_quantile([float(found.by(timer)) for found in calibration], self.alpha)
        alarms = [found.alarm(whole) for found in bad]
        decisive = [self.failures[index].decisive_step for index in failed]
        leads = [end - alarm for alarm, end in zip(alarms, decisive, strict=True) if alarm is not None and alarm < end]
        early = [found.alarm(in_time) for found in bad]
        ahead = [timer + 1 - alarm for alarm in early if alarm is not None and alarm <= timer]
        seen = np.array([np.inf if alarm is None else alarm for alarm in alarms])
        return {
            "tpr": float(np.mean(np.isfinite(seen))),
            "fpr": float(np.mean([found.highest[-1] > whole for found in good])),
            "early": len(leads) / len(bad),
            "tpr_in_time": len(ahead) / len(bad),
            "fpr_in_time": float(np.mean([found.by(timer) > in_time for found in good])),
            "auroc_equal_time": equal_time_auroc(bad, good, self._ends[tested]),
            "leads": [lead / self.hz for lead in leads],
            "ahead": [steps / self.hz for steps in ahead],
            "detected": np.mean(seen[:, None] <= curve, axis=0),
        }


def alarms_of(calibration: Calibration, traces: Sequence[ScoreTrace]) -> list[dict[str, Any]]:
    """What a calibration's own thresholds make of these episodes: the alarm as it would be raised on the robot.

    Returns:
        A row a score: score, tau, tpr and fpr with *_ci95 (Wilson), lead_s (quartiles in seconds, None without any).

    Raises:
        CalibrationError: an episode of another scoring, without a score, or no success or failure among them.
    """
    good = [trace for trace in traces if trace.good]
    bad = [trace for trace in traces if trace.outcome == "failure"]
    if not good or not bad:
        raise CalibrationError(f"{len(good)} successes and {len(bad)} failures; both are needed to count alarms")
    for trace in good + bad:
        if trace.scoring is None or not calibration.thresholds.keys() <= trace.tracks.keys():
            raise CalibrationError(f"episode {trace.id} was not scored as calibration {calibration.id} needs it")
        calibration.check(trace.scoring)
    rows = []
    for score, threshold in calibration.thresholds.items():
        found = [_first_alarm(trace.tracks[score], threshold) for trace in bad]
        false = sum(_first_alarm(trace.tracks[score], threshold) is not None for trace in good)
        leads = [
            (trace.decisive_step - step) / trace.hz
            for trace, step in zip(bad, found, strict=True)
            if step is not None and step < trace.decisive_step
        ]
        tpr, *tpr_ci95 = wilson(sum(step is not None for step in found), len(bad))
        fpr, *fpr_ci95 = wilson(false, len(good))
        told = {"tau": threshold.tau, "tpr": tpr, "tpr_ci95": tpr_ci95, "fpr": fpr, "fpr_ci95": fpr_ci95}
        rows.append({"score": score, **told, "lead_s": np.percentile(leads, (25, 50, 75)).tolist() if leads else None})
    return rows


def _first_alarm(track: Track, threshold: Threshold) -> int | None:
    above = [step for step, raw in zip(track.steps, track.values, strict=True) if threshold.calibrated(raw) > ALARM]
    return int(above[0]) if above else None


SHARES = ("tpr", "fpr", "early", "tpr_in_time", "fpr_in_time", "auroc_equal_time")


def _summary(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name in SHARES:
        values = [draw[name] for draw in draws]
        told[name] = float(np.mean(values))
        told[f"{name}_ci95"] = np.percentile(values, (2.5, 97.5)).tolist()
    for name, key in (("lead_s", "leads"), ("ahead_s", "ahead")):
        pooled = np.concatenate([draw[key] for draw in draws])
        told[name] = np.percentile(pooled, (25, 50, 75)).tolist() if len(pooled) else None
    told["detected"] = np.mean([draw["detected"] for draw in draws], axis=0).tolist()
    return told
