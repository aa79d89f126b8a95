"""LoopTriggers: the triggers of an online loop, with its calibration and the steps that its learner has done.

What can never fire, and a calibration that bounds nothing here, is refused before anything is started.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flexor.errors import FlexorError
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.triggers.surprise import highest
from flexor.flywheel.triggers.trigger_event import TriggerEvent
from flexor.flywheel.triggers.triggers import LASTING, Triggers
from flexor.runtime.adapters.manifest import BASE
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.inference.conformal import CalibrationError

_WAY_OUT = "measure one of it with `flexor run --calibrate 50`, or leave `calibration` out"


class NeverFires(FlexorError):
    """A trigger that nothing in this loop can set off."""


class LoopTriggers:
    """Args:
    run: folder of the log of decisions.
    bundle: that the loop serves.
    settings: of the loop.
    cycles: how many it goes.

    Attributes:
        calibration: of the entropy scores of the bundle alone; None where settings name none.

    Raises:
        CalibrationError: the calibration does not read, or is of another bundle or adapter.
        NeverFires: no score passes the threshold under the calibration, or nothing can ask for learning.
    """

    def __init__(self, run: Path, bundle: Bundle, settings: OnlineSettings, cycles: int) -> None:
        self._bundle, self._settings = bundle, settings
        self.calibration = None if settings.calibration is None else Calibration.load(settings.calibration)
        if self.calibration is not None:
            _check_calibration(self.calibration, bundle, settings)
        _check_reach(settings, cycles)
        self._triggers = Triggers(run, settings, self.calibration)

    def look(self, rows: Sequence[EpisodeRow], active: str, learned_steps: int) -> list[TriggerEvent]:
        """Decide after an episode; see Triggers.look.

        Args:
            rows: of the index, in the order in which the episodes began.
            active: adapter that is served.
            learned_steps: optimiser steps of all adapters of the loop. Triggers hear of them where a period is counted
                in them: where it is not, it may end while the learner has nothing to do, and asks it to begin.
        """
        period = self._settings.publish.period
        counted = period is not None and period.unit == "steps" and self._settings.learning
        steps = learned_steps if counted else None
        return self._triggers.look(rows, datetime.now(UTC), bundle=self._bundle.id, adapter=active, steps=steps)

    def standing(self, active: str) -> set[str]:
        """What has fired for the active adapter and lasts."""
        return self._triggers.standing(self._bundle.id, active)

    def due(self, collected: Sequence[EpisodeRow], active: str) -> list[str]:
        """Why something is to be learned after a cycle's episodes; empty where nothing asks for it.

        What fired among them counts although it was cleared since: a success after two failures does not unmake them,
        and what was corrected meanwhile is there to be learned.
        """
        since = min((row.started for row in collected), default=datetime.now(UTC).isoformat())
        fired = [trigger for trigger in ("publish", *LASTING) if self._triggers.fired_since(trigger, since)]
        return sorted({*self.standing(active), *fired})


def _check_calibration(calibration: Calibration, bundle: Bundle, settings: OnlineSettings) -> None:
    scoring, named = calibration.scoring, f"calibration {calibration.id} ({settings.calibration})"
    if (scoring.bundle, scoring.hash) != (bundle.name, bundle.hash):
        raise CalibrationError(
            f"{named} is of {scoring.bundle}@{scoring.hash[:12]}, and the loop serves {bundle.id}: it bounds none of "
            f"its scores; {_WAY_OUT}"
        )
    if scoring.adapter != BASE:
        raise CalibrationError(
            f"{named} is of adapter {scoring.adapter}, and the loop begins with the bundle alone; {_WAY_OUT}"
        )
    entropy, most = settings.thresholds.entropy, highest(calibration)
    if entropy.unit == "calibrated" and entropy.trigger_threshold >= most:
        raise NeverFires(
            f"thresholds.entropy.trigger_threshold is {entropy.trigger_threshold:g}, and under calibration "
            f"{calibration.id} no score of {scoring.samples} samples is above {most:.3g}; give less than that"
        )


def _check_reach(settings: OnlineSettings, cycles: int) -> None:
    """A loop that learns must be able to find a reason to."""
    episodes, thresholds, period = cycles * settings.collect.episodes, settings.thresholds, settings.publish.period
    by_itself = period is not None and period.unit != "steps"  # steps are only done when something else asked for them
    if not settings.learning or by_itself:
        return
    fill, run = thresholds.success_rate.min_fill, thresholds.consecutive_failures.trigger_threshold
    if fill > episodes and run > episodes:
        raise NeverFires(
            f"nothing can ask for learning: {cycles} cycles collect {episodes} episodes, "
            f"thresholds.success_rate.min_fill is {fill} and thresholds.consecutive_failures.trigger_threshold {run}; "
            'collect more, lower one of them, or give a period: publish.every="20 episodes"'
        )
