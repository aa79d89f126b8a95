"""The period: after so many steps, episodes or minutes the learner's adapter is published, whatever else happens."""

from __future__ import annotations

from datetime import datetime

from flexor.flywheel.triggers.evidence import Evidence
from flexor.flywheel.triggers.settings import PublishSettings
from flexor.flywheel.triggers.trigger_event import TriggerEvent

TRIGGER = "publish"


def period(settings: PublishSettings, evidence: Evidence) -> list[TriggerEvent]:
    """Whether a period has passed since it last fired, or since its first look.

    While the learner tells its steps and has done none since, nothing is published. A learner that began anew counts
    from 0, and a clock that was set back ends the period.
    """
    every = settings.period
    if every is None:
        return []
    if every.unit == "steps" and evidence.steps is None:
        why = f"publish.every is {settings.every}, and nobody tells the learner's steps; give episodes or minutes"
        return evidence.unable(TRIGGER, "no steps", why, {"every": settings.every})
    here = {"every": settings.every, "steps": evidence.steps, "last_started": _last_started(evidence)}
    of_it = [event for event in evidence.past if event.trigger == TRIGGER and event.kind in ("fired", "started")]
    if not of_it:
        return [evidence.event(TRIGGER, "started", f"every {settings.every} from here on", here)]
    then = of_it[-1]
    passed = _passed(evidence, then)
    if every.unit == "minutes" and passed["minutes"] < 0.0:
        why = f"the clock was set back behind {then.time}: the period ends here"
    elif passed[every.unit] < every.count:
        return []
    else:
        why = f"{passed[every.unit]:.5g} {every.unit} since the last time"
    if evidence.steps is not None and passed["steps"] == 0:
        return []
    return [evidence.event(TRIGGER, "fired", why, {**here, "since": then.time, "passed": passed})]


def _passed(evidence: Evidence, then: TriggerEvent) -> dict[str, float]:
    """By unit, since an earlier decision."""
    steps, before = evidence.steps or 0, then.numbers["steps"] or 0
    seconds = (evidence.now - datetime.fromisoformat(then.time)).total_seconds()
    return {
        "steps": steps - before if steps >= before else steps,
        "episodes": sum(row.started > then.numbers["last_started"] for row in evidence.rows),
        "minutes": seconds / 60.0,
    }


def _last_started(evidence: Evidence) -> str:
    return max((row.started for row in evidence.rows), default="")
