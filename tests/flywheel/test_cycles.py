"""What a cycle is and which episodes count, on a run that was counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from recorded_run import BASE, FIRST, record_run

from flexor.errors import FlexorError
from flexor.flywheel.cycles import cycles, labels, success, success_window
from flexor.flywheel.run_record import RunFolders, RunReader
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import EpisodeRow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_run(tmp_path_factory.mktemp("run")).root


@pytest.fixture(scope="module")
def rows(run: Path) -> list[EpisodeRow]:
    return EpisodeIndex(run / "log").episodes()


def played(row: EpisodeRow, adapters: str) -> list[tuple[str, int]]:
    """Adapters of episodes, a letter each, as cycles: adapter and number of episodes."""
    return [(cycle.adapter, len(cycle.rows)) for cycle in cycles([replace(row, adapter=name) for name in adapters])]


def test_an_episode_on_trial_belongs_to_the_cycle_of_the_active_adapter(rows: list[EpisodeRow]):
    first, second = (cycle.to_dict() for cycle in cycles(rows))
    assert (first["adapter"], first["episodes"], first["on_trial"]) == (BASE, 6, 1)
    assert (second["adapter"], second["episodes"], second["on_trial"]) == (FIRST, 4, 0)
    assert (first["successes"], first["judged"], first["interventions"]) == (
        2,
        5,
        1,
    )  # one abort; the helped one counts as none
    assert (second["successes"], second["judged"], second["alarms"]) == (3, 4, 1)
    assert first["labels"] == {"grasp_slip": 1, "reach_miss": 1}
    assert second["first"] == rows[7].id


@pytest.mark.parametrize(
    ("adapters", "found"),
    [
        ("", []),
        ("aaaabbab", [("a", 7), ("b", 1)]),  # the last one may be on trial or active; nobody came back yet
        ("aaabaabba", [("a", 9)]),  # rejected
        ("aaabaabbb", [("a", 6), ("b", 3)]),  # promoted
        ("aabbbaa", [("a", 2), ("b", 3), ("a", 2)]),  # rolled back
        ("aabbcc", [("a", 2), ("b", 2), ("c", 2)]),  # swapped without a trial, every other episode
    ],
)
def test_adapters_take_over_where_they_stay(rows: list[EpisodeRow], adapters: str, found: list[tuple[str, int]]):
    assert played(rows[0], adapters) == found


def test_the_window_counts_judged_episodes_alone(rows: list[EpisodeRow]):
    points = success_window(rows, window=4, last=2)
    assert [(point["n"], point["successes"], point["judged"]) for point in points] == [(9, 4, 4), (10, 3, 4)]
    assert success(rows)["ci95"] == pytest.approx([0.3127, 0.8318], abs=1e-4)  # Wilson, 6 of 10
    assert labels(rows) == {"grasp_slip": 2, "reach_miss": 1}
    assert success([row for row in rows if row.outcome == "abort"]) == {
        "judged": 0,
        "successes": 0,
        "success_rate": None,
        "ci95": [None, None],
    }


def test_the_folders_of_a_run_are_found_in_it_unless_there_are_several(run: Path):
    folders = RunFolders.find(run)
    assert folders == RunFolders(run / "log", run / "adapters", run / "adapters.training")
    with pytest.raises(FlexorError, match="hold no episodes"):
        RunFolders.find(run / "adapters")
    second = run / "second"
    second.mkdir()
    (second / "index.sqlite").touch()
    with pytest.raises(FlexorError, match="--episodes DIR"):
        RunFolders.find(run)
    assert RunFolders.find(run, episodes=run / "log") == folders


def test_what_a_flywheel_collects_comes_before_its_reserve(tmp_path: Path):
    for name in ("episodes", "reserve"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.sqlite").touch()
    assert RunFolders.find(tmp_path) == RunFolders(tmp_path / "episodes", None, None)


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path):
    run = record_run(tmp_path / "run").root
    reader = RunReader(RunFolders.find(run))
    assert reader.read().troubles == []
    (run / "adapters" / "state.json").write_text("[")
    (run / "adapters.training" / "run" / "curves.jsonl").write_text("[\n")
    again = reader.read()
    assert len(again.rows) == 11
    assert len(again.curves[0].rows) == 8, "as it was last"
    assert ["state.json" in told for told in again.troubles] == [True, False]
    assert "curves.jsonl is no file of curves" in again.troubles[1]
