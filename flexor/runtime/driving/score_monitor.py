"""ScoreMonitor: follows the scores of one episode, logs them raw and calibrated, and raises the alarm once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from flexor.runtime.episodes.episode_schema import ALARM_EVENT, ENTROPY_EVENT
from flexor.runtime.inference.calibration import PRIMARY, Calibration, Scoring
from flexor.runtime.inference.conformal import ALARM

RAW = "raw"  # what stands where a calibration's id would, when there is none


def calibration_id(calibration: Calibration | None) -> str:
    """The id of a calibration; "raw" without one."""
    return RAW if calibration is None else calibration.id


def calibration_extra(scoring: Scoring, calibration: Calibration | None) -> dict[str, Any]:
    """What an episode's description says about its scores: what they depend on, and the thresholds used, or "raw"."""
    if calibration is None:
        return {"scoring": asdict(scoring), "calibration": RAW}
    told = {"id": calibration.id, "alpha": calibration.alpha, "thresholds": calibration.to_dict()["thresholds"]}
    return {"scoring": asdict(scoring), "calibration": told}


class ScoreMonitor:
    """One episode's scores; make a new one for the next.

    The alarm is raised by the first chunk whose calibrated primary score is above 2.0; without a calibration there is
    none, because no raw value bounds the false alarms.
    """

    def __init__(self, calibration: Calibration | None, record: Callable[[int, str, Mapping[str, Any]], None]) -> None:
        """`record`: takes step, kind and data of an event."""
        self._calibration, self._record = calibration, record
        self._id = calibration_id(calibration)
        self.bits: list[float] = []  # raw ACE of every chunk that was scored
        self.calibrated_max: float | None = None  # of the primary score
        self.suspicion: float | None = None  # the newest calibrated primary score
        self.suspected_step = -1  # what step it is of
        self.alarm_step: int | None = None

    def note(self, scored_step: int, scores: Mapping[str, float], step: int) -> None:
        """Take scores of the chunk that was asked for at `scored_step`; they have become known at `step`.

        Raises:
            CalibrationError: a score that is not finite.
        """
        if not scores:
            return
        calibrated = {} if self._calibration is None else self._calibration.calibrated(scores)
        told = {**scores, "calibration": self._id, "calibrated": calibrated}
        self._record(scored_step, ENTROPY_EVENT, told)
        if "ace_bits" in scores:
            self.bits.append(scores["ace_bits"])
        value = calibrated.get(PRIMARY)
        if value is None:
            return
        self.suspicion, self.suspected_step = value, scored_step
        self.calibrated_max = value if self.calibrated_max is None else max(self.calibrated_max, value)
        if value > ALARM and self.alarm_step is None:
            self.alarm_step = step
            data = {"score": PRIMARY, "raw": scores[PRIMARY], "calibrated": value, "scored_step": scored_step}
            self._record(step, ALARM_EVENT, data)
