"""The ledger of an online loop that never ran: three cycles, one adapter refused and one swapped in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flexor.runtime.metrics import wilson

REFUSED, TAKEN = "1-aaaaaaaaaaaa", "2-bbbbbbbbbbbb"


def figures(successes: int, episodes: int = 40) -> dict[str, Any]:
    rate, low, high = wilson(successes, episodes)
    return {"success_rate": rate, "successes": successes, "episodes": episodes, "ci95": [low, high]}


def row(cycle: int, verb: str, seconds: float, **found: Any) -> dict[str, Any]:
    return {"cycle": cycle, "verb": verb, "seconds": seconds, **found}


def collected(episodes: int) -> dict[str, Any]:
    return {"episodes": episodes, "successes_alone": 9, "interventions": 7, "failure_labels": {"timeout": 4}}


def compared(base: int, last: int, points: float, interval: list[float], p: float) -> dict[str, Any]:
    arms = {"base": figures(base, 200), "last": figures(last, 200), "adapter": TAKEN}
    return {**arms, "points": points, "ci95": interval, "mcnemar_p": p, "rows": []}


def gate(shifted: float, unshifted: float) -> dict[str, Any]:
    return {
        "passed": True,
        "parent": "base",
        "shifted": {"difference": shifted},
        "unshifted": {"difference": unshifted},
    }


LEDGER_ROWS = [
    row(0, "reserve", 60.0, episodes=60),
    row(0, "measure", 30.0, adapter="base", **figures(24)),
    row(1, "collect", 90.0, **collected(20)),
    row(1, "decide", 0.0, triggers=["consecutive_failures"], learn=True, why=""),
    row(1, "learn", 45.0, adapter=REFUSED, loss_before=0.27, loss_after=0.2, steps=400),
    row(1, "gate", 45.0, **gate(0.05, -0.025)),
    row(
        1,
        "offer",
        150.0,
        adapter=REFUSED,
        state="REJECTED",
        reason="no_evidence",
        told="it can win no more",
        episodes=40,
    ),
    row(1, "measure", 15.0, adapter="base", **figures(24)),
    row(2, "collect", 90.0, **collected(20)),
    row(2, "decide", 0.0, triggers=["success_rate"], learn=True, why=""),
    row(2, "learn", 45.0, adapter=TAKEN, loss_before=0.27, loss_after=0.18, steps=400),
    row(2, "gate", 45.0, **gate(0.3, 0.0)),
    row(2, "offer", 150.0, adapter=TAKEN, state="ACTIVE", reason=None, told="as good as its parent", episodes=24),
    row(2, "measure", 15.0, adapter=TAKEN, **figures(36)),
    row(3, "after", 300.0, **compared(120, 162, 21.0, [14.0, 28.0], 1e-6)),
    row(3, "unshifted", 300.0, **compared(197, 195, -1.0, [-3.0, 1.5], 0.6)),
]


def write_ledger(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As a RowFile has it."""
    lines = [{"conditions": {"seed": 0}}, *rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
