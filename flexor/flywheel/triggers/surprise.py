"""Surprise: an episode whose entropy was above its threshold is flagged "pre-fail" and learned from first."""

from __future__ import annotations

import math
from collections.abc import Iterable

from flexor.flywheel.triggers.evidence import Evidence
from flexor.flywheel.triggers.settings import EntropySettings
from flexor.flywheel.triggers.trigger_event import TriggerEvent
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.calibration import PRIMARY, Calibration
from flexor.runtime.inference.conformal import ALARM

TRIGGER = "entropy"
_MEASURE = "measure one with `flexor run --calibrate` or `flexor episodes calibrate`"


def surprise(settings: EntropySettings, evidence: Evidence) -> list[TriggerEvent]:
    """Every episode above the threshold, once; and why there can be none.

    In the unit "calibrated" only episodes of the policy that the calibration was measured with count: for others its
    threshold bounds nothing.
    """
    if settings.unit == "bits":
        return _flagged(settings, evidence, ((row, row.entropy_bits_max) for row in evidence.rows), None)
    calibration = evidence.calibration
    if calibration is None:
        why = f"there is no calibration, and raw scores are no alarm; {_MEASURE}, or set unit=bits"
        return evidence.unable(TRIGGER, "no calibration", why, {})
    return [
        *_unfit(settings, evidence, calibration),
        *_flagged(
            settings,
            evidence,
            ((row, row.calibrated_max) for row in evidence.rows if _fits(calibration, row)),
            calibration,
        ),
    ]


def highest(calibration: Calibration) -> float:
    """The largest calibrated score that there can be: all samples of a chunk in cells of their own."""
    return ALARM * math.log2(calibration.scoring.samples) / calibration.thresholds[PRIMARY].tau


def _flagged(
    settings: EntropySettings,
    evidence: Evidence,
    scored: Iterable[tuple[EpisodeRow, float | None]],
    calibration: Calibration | None,
) -> list[TriggerEvent]:
    known = {event.numbers["episode"] for event in evidence.past if (event.trigger, event.kind) == (TRIGGER, "fired")}
    found = []
    for row, score in scored:
        if score is None or score <= settings.trigger_threshold or row.id in known:
            continue
        numbers = {
            "episode": row.id,
            "score": score,
            "unit": settings.unit,
            "threshold": settings.trigger_threshold,
            "entropy_bits_max": row.entropy_bits_max,
            "alarm_step": row.alarm_step,
            "priority": row.priority,
            "outcome": row.outcome,
            "adapter": row.adapter,
            "calibration": None if calibration is None else calibration.id,
        }
        why = f"pre-fail: {score:.3g} {settings.unit}, above {settings.trigger_threshold:.3g}"
        found.append(evidence.event(TRIGGER, "fired", why, numbers))
    return found


def _unfit(settings: EntropySettings, evidence: Evidence, calibration: Calibration) -> list[TriggerEvent]:
    """Why no episode of the active policy can be above the threshold, if so."""
    scoring, named = calibration.scoring, {"calibration": calibration.id}
    if not _of(calibration, evidence.bundle, evidence.adapter):
        its = f"{_bundle(calibration)}/{scoring.adapter}"
        why = f"calibration {calibration.id} is of {its}, not of {evidence.policy}: it is not used; {_MEASURE}"
        return evidence.unable(TRIGGER, "calibration of another policy", why, {**named, "calibrated_policy": its})
    tau, ceiling = calibration.thresholds[PRIMARY].tau, highest(calibration)
    if settings.trigger_threshold >= ceiling:
        why = (
            f"no score passes {settings.trigger_threshold:g}: with {scoring.samples} samples and a threshold of "
            f"{tau:.3g} bits the highest is {ceiling:.3g}; give less, or more samples"
        )
        numbers = {**named, "threshold": settings.trigger_threshold, "ceiling": ceiling, "tau": tau}
        return evidence.unable(TRIGGER, "out of reach", why, numbers)
    return []


def _fits(calibration: Calibration, row: EpisodeRow) -> bool:
    return _of(calibration, row.bundle, row.adapter)


def _of(calibration: Calibration, bundle: str, adapter: str) -> bool:
    return (_bundle(calibration), calibration.scoring.adapter) == (bundle, adapter)


def _bundle(calibration: Calibration) -> str:
    """As episodes name it."""
    return f"{calibration.scoring.bundle}@{calibration.scoring.hash[:12]}"
