"""Measurements made up for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

from flexor.flywheel.campaign.results_file import Measurement

ENV = {"cpu": "some", "cores": 2, "gpu": None}
PLAYED = Measurement(
    cell="a",
    kind="oracle",
    options={"seed": 5000},
    bundle_hash=None,
    first=0,
    n=4,
    tasks=["left", "right"],
    task_of=[0, 1, 0, 1],
    outcomes={"success": "1101"},
    result={"steps_mean": 40.0},
    command="flexor oracle --seed 5000 --episodes 4",
    commit="0123456789ab",
    began="2026-01-01T00:00:00+00:00",
    seconds=8.0,
    env=ENV,
)


def played(first: int, successes: str, **changes: Any) -> Measurement:
    """Episodes from number `first` on, all of one task, a 1 or a 0 for each."""
    n = len(successes)
    given: dict[str, Any] = {"first": first, "n": n, "tasks": ["left"], "task_of": [0] * n}
    return dataclasses.replace(PLAYED, **(given | {"outcomes": {"success": successes}} | changes))
