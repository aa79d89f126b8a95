"""The run of failures: so many in a row, and corrections are due at once."""

from __future__ import annotations

import itertools

from flexor.flywheel.triggers.evidence import Evidence
from flexor.flywheel.triggers.settings import FailureRunSettings
from flexor.flywheel.triggers.trigger_event import TriggerEvent

TRIGGER = "consecutive_failures"


def failure_run(settings: FailureRunSettings, evidence: Evidence) -> list[TriggerEvent]:
    """What follows from the last judged episodes of the active policy.

    It fires once a run, when the run is long enough, and is cleared by the success that ends it. Aborts, unknown
    outcomes and successes in which somebody helped neither lengthen a run nor end it.
    """
    backwards = itertools.takewhile(lambda told: not told[1], reversed(evidence.judged))
    run = [row for row, _ in backwards][::-1]
    last = evidence.last(TRIGGER)
    standing = last is not None and last.kind == "fired"
    # The run that it fired for has ended, maybe unseen between two looks, when the present one began after that.
    over = last is not None and standing and (not run or run[0].started > last.numbers["last_started"])
    numbers = {
        "failures": len(run),
        "threshold": settings.trigger_threshold,
        "first": run[0].id if run else None,
        "last": evidence.judged[-1][0].id if evidence.judged else None,
        "last_started": evidence.judged[-1][0].started if evidence.judged else "",
        "labels": [row.label for row in run],
    }
    if len(run) >= settings.trigger_threshold and (over or not standing):
        return [evidence.event(TRIGGER, "fired", f"{len(run)} failures in a row", numbers)]
    if over:
        return [evidence.event(TRIGGER, "cleared", "a success ended the run of failures", numbers)]
    return []
