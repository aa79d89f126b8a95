"""The success rate: below its threshold over the last episodes of the active policy, a fine-tune batch is due."""

from __future__ import annotations

from flexor.flywheel.triggers.evidence import Evidence
from flexor.flywheel.triggers.settings import SuccessRateSettings
from flexor.flywheel.triggers.trigger_event import TriggerEvent
from flexor.runtime.metrics import wilson

TRIGGER = "success_rate"


def success_rate(settings: SuccessRateSettings, evidence: Evidence) -> list[TriggerEvent]:
    """What follows from the judged episodes of the active policy.

    It fires once an onset. It is armed again when the rate is back at rearm_at, and by another policy, which starts
    with a window of its own. Where neither comes, it fires again after as many judged episodes as the window holds:
    then nothing in the window has been acted on yet.
    """
    told = evidence.judged[-settings.window :]
    if not told and len(evidence.own) >= settings.min_fill:
        why = (
            f"none of {settings.min_fill} episodes or more has an outcome of the policy's own, so no success rate can "
            "fall; judge them (`flexor run --operator`, `flexor episodes label`)"
        )
        return evidence.unable(TRIGGER, "nobody judges", why, {"min_fill": settings.min_fill})
    if len(told) < settings.min_fill:
        return []
    successes, n = sum(success for _, success in told), len(told)
    rate, low, high = wilson(successes, n)
    last = evidence.last(TRIGGER)
    standing = last is not None and last.kind == "fired"
    since = None if last is None else sum(row.started > last.numbers["last_started"] for row, _ in evidence.judged)
    numbers = {
        "successes": successes,
        "n": n,
        "success_rate": rate,
        "ci95": [low, high],
        "threshold": settings.trigger_threshold,
        "rearm_at": settings.rearm_at,
        "window": settings.window,
        "min_fill": settings.min_fill,
        "first": told[0][0].id,
        "last": told[-1][0].id,
        "last_started": told[-1][0].started,
        "judged_since_last": since,
    }
    said = f"{successes} of the last {n} judged episodes succeeded"
    if standing and rate >= settings.rearm_at:
        return [evidence.event(TRIGGER, "cleared", f"{said}: armed again at {settings.rearm_at:.3g}", numbers)]
    due = not standing or (since is not None and since >= settings.window)
    if due and rate < settings.trigger_threshold:
        again = ", and a whole window since it last fired" if standing else ""
        return [evidence.event(TRIGGER, "fired", f"{said}: below {settings.trigger_threshold:.3g}{again}", numbers)]
    return []
