"""Keys of the daemon that learns: when it looks, what an adapter begins with, what it replays; configs/learn.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learning_daemon import Learner, settings
from recordings import record

from flexor.learner.continual.daemon import LearnerDaemon
from flexor.learner.lora.learn import work_folder
from flexor.learner.replay.reservoir import Reservoir
from flexor.runtime.inference.bundle import Bundle


def looks(learner: Learner, count: int) -> list[float]:
    """The seconds that it waits between its first looks at the index, without waiting them."""
    waited: list[float] = []
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(LearnerDaemon, "_wait", lambda self, seconds: waited.append(seconds))
        learner.run(lambda: len(waited) >= count)
    return waited


def test_poll_s_is_waited_between_two_looks(base: Bundle, tmp_path: Path) -> None:
    for seconds in (0.25, 7.0):
        chosen = settings(learner={"poll_s": seconds})
        assert looks(Learner(base, tmp_path / "log", tmp_path / "adapters", chosen), 3) == [seconds] * 3


def due(base: Bundle, folder: Path, publish: dict[str, Any]) -> str | None:
    """Why an adapter of six episodes is begun; None when none is."""
    learner = Learner(base, folder / "log", folder / "adapters", settings(held_out=1e-9, steps=2, publish=publish))
    looked: list[int] = []
    learner.run(lambda: bool(learner.told("publication.begun")) or looked.append(1) is not None or len(looked) > 12)
    told = learner.told("publication.begun")
    return told[0]["reason"] if told else None


@pytest.mark.parametrize(
    ("publish", "reason"),
    [
        ({"every_episodes": 6}, "publish.every_episodes"),
        ({"every_episodes": 7}, None),
        ({"every_episodes": 7, "every_minutes": 1e-9}, "publish.every_minutes"),
        ({"every_episodes": 7, "every_minutes": 1e9}, None),
        ({"every_episodes": 7, "every_steps": 2}, "publish.every_steps"),
        ({"every_episodes": 6, "min_episodes": 7}, None),
    ],
)
def test_each_key_of_publish_decides_when_an_adapter_is_begun(
    base: Bundle, tmp_path: Path, publish: dict[str, Any], reason: str | None
) -> None:
    record(tmp_path / "log", episodes=6)
    assert due(base, tmp_path, publish) == reason


def test_per_task_and_the_seed_of_replay_choose_what_is_replayed(
    base: Bundle, recordings: Path, tmp_path: Path
) -> None:
    chosen = []
    for number, replay in enumerate(({"per_task": 2}, {"per_task": 3}, {"per_task": 2, "seed": 1})):
        out = tmp_path / str(number) / "adapters"
        Learner(base, tmp_path / "log", out, settings(replay=replay), replay=recordings).run(lambda: True)
        chosen.append(Reservoir.load(work_folder(out) / "reservoir.json").episodes)
    assert [{len(ids) for ids in episodes.values()} for episodes in chosen] == [{2}, {3}, {2}]
    assert chosen[0] != chosen[2]
