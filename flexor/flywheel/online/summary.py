"""What an online loop came to, told from its ledger alone: before, after one adapter, after all, what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flexor.flywheel.online.stages import AFTER, COLLECT, GATE, LEARN, MEASURE, OFFER, UNSHIFTED

FIGURES = ("success_rate", "successes", "episodes", "ci95")


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of a loop, as far as it has come.

    Args:
        rows: of the ledger: cycle, verb, seconds and what the stage found.

    Returns:
        before, one_shot, loop: success under the shift on the seeds that every cycle is measured on: of the base, of
            the first adapter that went into service, of the last; None where it has not come so far.
        after: base and last adapter on fresh seeds, paired: `base`, `last` (as above), `points` and `ci95` of their
            difference, `mcnemar_p`.
        unshifted: the same where nothing is shifted.
        forgetting_points, forgetting_ci95: the same difference where nothing is shifted, base less last: above 0 is
            forgetting.
        episodes: that could be learned from: collected ones, and, where these are not advised, those that adapters were
            tried in.
        wall_minutes: of everything but the measurements before and after.
        adapters: how many were learned, went into service, and were refused, by reason.
        cycles: one row each.
        rows: seed, task and success of each of the fresh episodes that the last adapter played under the shift.
    """
    by = {(row["cycle"], row["verb"]): row for row in rows}
    numbers = sorted({row["cycle"] for row in rows if row["verb"] == COLLECT})
    served = [number for number in numbers if by.get((number, OFFER), {}).get("state") == "ACTIVE"]
    first, last = (served[0], numbers[-1]) if served else (None, None)
    offers = [by[number, OFFER] for number in numbers if (number, OFFER) in by]
    refused = [
        offer["reason"] or offer["state"].lower() for offer in offers if offer["state"] not in ("ACTIVE", "NONE")
    ]
    unshifted = _pair(by.get((numbers[-1] + 1, UNSHIFTED))) if numbers else None
    working = [row for row in rows if row["verb"] not in (AFTER, UNSHIFTED) and row["cycle"] > 0]
    return {
        "before": _measured(by, 0),
        "one_shot": _measured(by, first),
        "loop": _measured(by, last),
        "after": _pair(by.get((numbers[-1] + 1, AFTER))) if numbers else None,
        "unshifted": unshifted,
        **_forgetting(unshifted),
        "episodes": sum(row["episodes"] for row in rows if row["verb"] == COLLECT or row.get("teach")),
        "wall_minutes": sum(row["seconds"] for row in working) / 60,
        "adapters": {
            "learned": sum((number, LEARN) in by and by[number, LEARN]["adapter"] is not None for number in numbers),
            "served": len(served),
            "refused": {reason: refused.count(reason) for reason in sorted(set(refused))},
        },
        "cycles": [_cycle(by, number) for number in numbers],
        "rows": by.get((numbers[-1] + 1, AFTER), {}).get("rows", []) if numbers else [],
    }


def refused_in_a_row(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many of the last adapters did not go into service, one after the other."""
    offers = [row for row in rows if row["verb"] == OFFER and row["state"] != "NONE"]
    refused = 0
    for row in reversed(offers):
        if row["state"] == "ACTIVE":
            break
        refused += 1
    return refused


def _measured(by: Mapping[tuple[int, str], Mapping[str, Any]], cycle: int | None) -> dict[str, Any] | None:
    row = None if cycle is None else by.get((cycle, MEASURE))
    return None if row is None else {name: row[name] for name in FIGURES}


def _pair(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {name: row[name] for name in ("base", "last", "points", "ci95", "mcnemar_p")}


def _forgetting(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """What was lost where nothing is shifted; None where that was not measured."""
    if row is None or row["points"] is None:
        return {"forgetting_points": None, "forgetting_ci95": None}
    low, high = row["ci95"]
    return {"forgetting_points": -row["points"], "forgetting_ci95": [-high, -low]}


def _cycle(by: Mapping[tuple[int, str], Mapping[str, Any]], number: int) -> dict[str, Any]:
    collected, offer = by[number, COLLECT], by.get((number, OFFER), {})
    learned = by.get((number, LEARN), {})
    return {
        "cycle": number,
        **{name: collected[name] for name in ("episodes", "successes_alone", "interventions", "failure_labels")},
        "triggers": by.get((number, "decide"), {}).get("triggers", []),
        **{name: learned.get(name) for name in ("adapter", "loss_before", "loss_after")},
        "gate": by.get((number, GATE), {}).get("passed"),
        **{name: offer.get(name) for name in ("state", "reason")},
        "measured": _measured(by, number),
    }
