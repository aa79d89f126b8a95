"""Capacity: what is recorded and learned once is used again, and slices are parts of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flexor.flywheel.capacity import CapacityWatcher, World, measure_capacity
from flexor.learner.lora.settings import LoraSettings
from flexor.runtime.inference.bundle import Bundle
from flexor.sim.shift import Shift


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_capacity_is_measured_in_slices_that_share_what_was_recorded_and_learned(tmp_path: Path):
    base, seen = Bundle.open("pi05-nano"), {"demonstrations": 0, "steps": 0}
    lighter = Shift.parse("medium", "light", "tabletop")

    def count(what: str) -> Any:
        def told(*_: Any) -> None:
            seen[what] += 1

        return told

    def measure(skip: int, episodes: int) -> dict[str, Any]:
        return measure_capacity(
            base,
            World("sim:tabletop", lighter, lighter),
            10,
            LoraSettings(steps=4, batch=2, accumulation=1, draws=2, held_out=0.2),
            tmp_path,
            episodes=episodes,
            seed=5000,
            skip=skip,
            workers=2,
            watcher=CapacityWatcher(count("demonstrations"), count("steps"), lambda row: None),
        )

    first, second = measure(0, 2), measure(2, 3)
    assert seen == {"demonstrations": 10, "steps": 4}
    assert [row["seed"] for row in first["rows"] + second["rows"]] == [5000, 5001, 5002]
    assert first["bundle_hash"] == second["bundle_hash"] == base.hash
    assert first["learned"] == second["learned"]
    assert Bundle.open(first["learned"]).config.origin["merged_into"] == base.hash
    assert first["shift"] == lighter.to_dict()
    assert first["trained"] == second["trained"] > 50_000
