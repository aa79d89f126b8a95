"""The flywheel turns on a person's word alone: the processes of any loop, and nothing of the simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.watcher import Watcher
from flexor.flywheel.online.wheel import Wheel
from flexor.runtime.adapters.audit_log import read_audit
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.settings import load_settings

LOOKS = 24  # at the device before a verdict: three as an episode begins, then two a control step
SETTINGS = [
    "model.bundle=pi05-nano",
    "collect.episodes=3",
    "thresholds.consecutive_failures.trigger_threshold=1",
    "lora.steps=2",
    "lora.batch=2",
    "lora.draws=2",
    "lora.encodings=1",
    "offer.episodes=2",
]


class Person:
    """Lets every episode begin. The first one fails; in the next two they take the arm; after that all is well."""

    help = "scripted"

    def __init__(self) -> None:
        self.episodes = self._looks = 0

    def presses(self) -> list[str]:
        self._looks += 1
        if self._looks >= LOOKS:
            self.episodes, self._looks = self.episodes + 1, 0
            return ["failure" if self.episodes == 1 else "success"]
        return ["ready", "takeover"] if self._looks == 8 and self.episodes in (1, 2) else ["ready"]

    def motion(self) -> NDArray[np.float32]:
        return np.array([0, 0, 1, 0, 0, 0], np.float32)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_person_says_how_it_went_and_takes_over_and_an_adapter_comes_of_it(tmp_path: Path):
    said: list[str] = []
    watcher = Watcher(lambda stage: None, said.append, lambda row: None)
    settings = load_settings(OnlineSettings, None, SETTINGS)
    with Wheel(tmp_path, 1, 0, settings, watcher, devices=[Person()]) as wheel:
        told = wheel.turn()
        rows = {row["verb"]: row for row in wheel._ledger.rows}
    assert set(rows) == {"collect", "decide", "learn", "offer"}
    played = EpisodeIndex(tmp_path / "episodes").episodes()
    assert {row.source for row in played} == {"operator"}
    assert [row.outcome for row in played[:3]] == ["failure", "success", "success"]
    assert [row.interventions > 0 for row in played[:3]] == [False, True, True]
    assert rows["decide"]["triggers"] == ["consecutive_failures"]
    assert rows["learn"]["learned_from"] >= 1
    assert rows["offer"]["state"] in ("ACTIVE", "REJECTED") and rows["offer"]["episodes"] >= 2
    happened = [entry["event"] for entry in read_audit(tmp_path / "adapters")[0]]
    assert "adapter.shadow" in happened and "adapter.canary" in happened
    assert told["before"] is None and told["after"] is None
    assert told["episodes"] == 3 + rows["offer"]["episodes"] == len(played)
