"""The learner as a process of a loop: what it had finished when all were killed is not learned again."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_bundles import write_micro
from random_adapters import ALPHA, RANK, draw_factors
from recordings import record

from flexor.errors import FlexorError
from flexor.flywheel.online.learner_process import NOTHING_NEW, learn_adapter
from flexor.flywheel.online.settings import CollectSettings, OnlineSettings
from flexor.flywheel.online.stages import LoopStopped
from flexor.learner.continual.learner_state import LearnerState
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.manifest import BASE
from flexor.runtime.adapters.store_state import StoreState
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle

PLAIN = OnlineSettings(collect=CollectSettings(advise=False))
"""What was recorded are plain successes, which teach where nobody advises."""
IMPATIENT = PLAIN.model_copy(update={"learn_timeout_s": 0.001})
"""A learner that is started ends before it has learned anything."""


def learn(run: Path, known: tuple[str, ...] = (), stopped: bool = False, settings: OnlineSettings = IMPATIENT):
    bundle = Bundle.open(run / "micro")
    return learn_adapter(run, bundle, settings, 0, "ipc:///nowhere", None, known, lambda line: None, lambda: stopped)


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    """One that a learner wrote and noted as its last."""
    bundle = write_micro(tmp_path / "micro")
    metrics, factors = {"steps": 400.0, "loss_after": 0.2}, draw_factors(bundle.model_config)
    folder = tmp_path / "adapters"
    name = write_adapter(folder, factors, bundle, rank=RANK, alpha=ALPHA, episodes=("a", "b"), metrics=metrics).name
    (tmp_path / "adapters.training").mkdir()
    LearnerState(number=1, current=name).write(tmp_path / "adapters.training")
    return name


def test_an_adapter_that_was_finished_and_not_noted_is_taken(tmp_path: Path, adapter: str):
    assert learn(tmp_path) == {"adapter": adapter, "learned_from": 2, "steps": 400.0, "loss_after": 0.2}


def test_one_of_an_earlier_cycle_is_not_taken_for_the_next(tmp_path: Path, adapter: str):
    record(tmp_path / "episodes", episodes=4)
    with pytest.raises(FlexorError, match="the learner gave no adapter: its time was up"):
        learn(tmp_path, known=(adapter,))


def test_where_nothing_came_that_teaches_no_learner_waits_for_it(tmp_path: Path, adapter: str):
    assert learn(tmp_path, known=(adapter,)) == {"adapter": None, "why": NOTHING_NEW}
    record(tmp_path / "episodes", episodes=4)
    known = tuple(row.id for row in EpisodeIndex(tmp_path / "episodes").episodes())
    LearnerState(number=1, current=adapter, known=known).write(tmp_path / "adapters.training")
    assert learn(tmp_path, known=(adapter,))["adapter"] is None


@pytest.mark.parametrize("served", [True, False])
def test_what_did_not_go_into_service_is_nothing_to_go_on_from(tmp_path: Path, adapter: str, served: bool):
    record(tmp_path / "episodes", episodes=4)
    StoreState(active=adapter if served else BASE).write(tmp_path / "adapters")
    with pytest.raises(FlexorError, match="its time was up"):
        learn(tmp_path, known=(adapter,))
    assert LearnerState.read(tmp_path / "adapters.training").current == (adapter if served else BASE)


def test_a_wish_to_stop_ends_the_learner(tmp_path: Path, adapter: str):
    record(tmp_path / "episodes", episodes=4)
    with pytest.raises(LoopStopped):
        learn(tmp_path, known=(adapter,), stopped=True, settings=PLAIN)
