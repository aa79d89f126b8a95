"""The state of a run as the page shows it: plain values, ready for JSON. Reads nothing itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flexor.flywheel.alerts import LOSS
from flexor.flywheel.cycles import cycles, judged, labels, success, success_window
from flexor.flywheel.run_record import Curve, RunRecord
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.conformal import ALARM

POINTS = 300  # of a curve
ROWS = 20  # of a table of episodes
CYCLES = 50
HISTORY = 60  # entries of the audit log
SHOWN = ("id", "started", "task", "seed", "adapter", "outcome", "label", "steps", "interventions", "entropy_bits_mean",
         "calibrated_max", "alarm_step")  # fmt: skip


def run_state(record: RunRecord, window: int) -> dict[str, Any]:
    """What files tell of a run.

    Args:
        window: judged episodes that success is counted over.

    Returns:
        episodes (see the keys below), cycles, adapters, history, learner and troubles.
    """
    told = [row for row in record.rows if judged(row) is not None]
    recent = told[-window:]
    return {
        "episodes": {
            "total": len(record.rows),
            "window": {"size": window, **success(recent), "labels": labels(recent)},
            "success": success_window(record.rows, window, POINTS),
            "labels": labels(record.rows),
            "entropy": entropy(record.rows[-POINTS:]),
            "recent": [{key: getattr(row, key) for key in SHOWN} for row in record.rows[: -ROWS - 1 : -1]],
            "bytes": sum(row.bytes for row in record.rows),
            "unlearned": sum(not row.used_by for row in record.rows),
        },
        "cycles": [cycle.to_dict() for cycle in cycles(record.rows)[-CYCLES:]],
        "adapters": record.adapters,
        "history": record.audit[: -HISTORY - 1 : -1],
        "learner": [curve_points(curve) for curve in record.curves],
        "troubles": record.troubles,
    }


def entropy(rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    """Largest score of each episode. Calibrated where there is one, else raw bits, which have no threshold."""
    calibrated = any(row.calibrated_max is not None for row in rows)
    scores = [(row.id, row.calibrated_max if calibrated else row.entropy_bits_max) for row in rows]
    points = [{"id": name, "score": score} for name, score in scores if score is not None]
    return {"calibrated": calibrated, "threshold": ALARM if calibrated else None, "points": points}


def curve_points(curve: Curve) -> dict[str, Any]:
    """The loss of one learner's run by step, thinned evenly to POINTS rows or a few more, the last one kept."""
    rows = [row for row in curve.rows if LOSS in row]
    every = max(1, len(rows) // POINTS)
    kept = rows[len(rows) % every :: every] if every > 1 else rows
    if rows and (not kept or kept[-1] is not rows[-1]):
        kept = [*kept, rows[-1]]
    return {"name": curve.name, "points": [[row["step"], row[LOSS]] for row in kept]}


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
