"""What becomes of an evaluation that is stopped, loses workers or meets a robot that breaks down."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import failing_world
import pytest
from failing_world import open_faulty, open_mortal, open_unready
from point_world import open_elsewhere, open_noisy_policy, open_point

from flexor.errors import FlexorError
from flexor.flywheel import evaluate as evaluation
from flexor.flywheel.evaluate import MAX_DEATHS, evaluate
from flexor.flywheel.evaluation_worker import Setup, make_player
from flexor.flywheel.lockstep import Manner
from flexor.flywheel.row_file import RowFile, RowFileError
from flexor.flywheel.row_sources import row_sources_hash
from flexor.runtime.driving.guard import GuardSettings
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.worker_pool import WorkerDied

run = functools.partial(
    evaluate, "point", "sim:point", ("left", "right"), make_robot=open_point, make_policy=open_noisy_policy
)


def without_place(result: dict[str, Any]) -> dict[str, Any]:
    """All but where its rows lie and what happened to its workers on the way."""
    return {key: value for key, value in result.items() if key not in ("rows_file", "worker_deaths")}


def test_a_part_that_was_played_is_not_played_again_and_the_result_is_that_of_the_whole(tmp_path):
    run(4, 5, 1, keep=tmp_path)
    told: list[dict[str, Any]] = []
    result = run(10, 5, 2, keep=tmp_path, watch=told.append)
    assert without_place(result) == without_place(run(10, 5, 1))
    assert [row["seed"] for row in told[:4]] == [5, 6, 7, 8]  # the kept ones are told first
    (path,) = tmp_path.iterdir()
    assert result["rows_file"] == str(path)
    assert len(path.read_text().splitlines()) == 1 + 10  # each episode once


def test_an_evaluation_that_is_killed_goes_on_where_it_was(tmp_path):
    program = tmp_path / "evaluation.py"
    program.write_text(
        "import sys\n"
        f"sys.path.append({str(Path(failing_world.__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from flexor.flywheel.evaluate import evaluate\n"
        "from point_world import open_noisy_policy, open_point\n"
        "if __name__ == '__main__':\n"
        "    evaluate('point', 'sim:point', ('left',), 2000, 5, 1, keep=Path(sys.argv[1]),\n"
        "             make_robot=open_point, make_policy=open_noisy_policy)\n"
    )
    keep = tmp_path / "keep"
    process = subprocess.Popen([sys.executable, str(program), str(keep)])
    try:
        deadline = time.monotonic() + 60.0
        while not (keep.exists() and any(path.read_bytes().count(b"\n") > 5 for path in keep.iterdir())):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30.0)
    (path,) = keep.iterdir()
    there = path.read_bytes().count(b"\n") - 1
    assert there < 2000
    with path.open("ab") as stream:
        stream.write(b'{"episode":')  # as a kill in the middle of a line would leave it
    total = there + 3
    left = functools.partial(
        evaluate, "point", "sim:point", ("left",), total, 5, 1, make_robot=open_point, make_policy=open_noisy_policy
    )
    assert without_place(left(keep=keep)) == without_place(left())
    assert path.read_bytes().count(b"\n") == 1 + total


def test_the_episodes_of_a_killed_worker_are_played_again_and_none_is_counted_twice(tmp_path):
    once = functools.partial(open_mortal, seed=8, lives=1, grave=str(tmp_path / "grave"))
    result = run(10, 5, 2, keep=tmp_path / "keep", make_robot=once)
    assert without_place(result) == without_place(run(10, 5, 1))
    assert len(result["worker_deaths"]) == 1 and "exit code -9" in result["worker_deaths"][0]
    (path,) = (tmp_path / "keep").iterdir()
    assert sorted(json.loads(line)["seed"] for line in path.read_text().splitlines()[1:]) == list(range(5, 15))


def test_workers_that_keep_dying_end_the_evaluation_and_what_was_played_is_kept(tmp_path):
    always = functools.partial(open_mortal, seed=8, lives=100, grave=str(tmp_path / "grave"))
    with pytest.raises(WorkerDied, match="'seed': 8"):
        run(6, 5, 1, keep=tmp_path / "keep", make_robot=always)
    assert len((tmp_path / "grave").read_text()) == MAX_DEATHS + 1
    (path,) = (tmp_path / "keep").iterdir()
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()[1:]] == [5, 7, 9, 6]  # left, then right


def test_a_robot_that_breaks_down_is_a_failure_with_its_reason_and_is_not_tried_again(tmp_path):
    faulty = functools.partial(open_faulty, seed=7)
    result = run(6, 5, 1, tmp_path / "log", keep=tmp_path / "keep", make_robot=faulty)
    assert result["faults"] == 1
    (row,) = (row for row in result["rows"] if row["fault"] is not None)
    assert (row["seed"], row["success"], row["steps"]) == (7, False, 3)
    assert row["fault"] == "the motors are hot"
    assert result["episodes"] == 6
    assert run(6, 5, 1, keep=tmp_path / "keep", make_robot=faulty)["rows"] == result["rows"]
    episodes = [read_episode(path) for path in (tmp_path / "log" / "episodes").glob("*.mcap")]
    (broken,) = (episode for episode in episodes if episode.meta.seed == 7)
    assert [(event.step, event.kind) for event in broken.events if event.kind == "robot.fault"] == [(2, "robot.fault")]
    assert broken.outcome == "failure"


def test_a_robot_that_breaks_down_before_the_first_step_is_a_failure_with_its_reason_and_the_others_are_played(
    tmp_path,
):
    unready = functools.partial(open_unready, seed=7)
    result = run(6, 5, 1, tmp_path / "log", keep=tmp_path / "keep", make_robot=unready)
    assert (result["episodes"], result["faults"]) == (6, 1)
    (row,) = (row for row in result["rows"] if row["seed"] == 7)
    assert (row["success"], row["steps"], row["fault"]) == (False, 0, "the table fell over")
    assert [row for row in result["rows"] if row["seed"] != 7] == [
        row for row in run(6, 5, 1)["rows"] if row["seed"] != 7
    ]
    recorded = EpisodeIndex(tmp_path / "log").episodes()
    assert sorted(int(episode.seed) for episode in recorded) == [5, 6, 8, 9, 10]  # of nothing there is no recording


def test_what_is_to_be_recorded_is_played_although_it_was_kept(tmp_path):
    kept = run(4, 5, 1, keep=tmp_path / "keep")
    (path,) = (tmp_path / "keep").iterdir()
    before = path.read_bytes()
    assert run(4, 5, 1, tmp_path / "log", keep=tmp_path / "keep")["rows"] == kept["rows"]
    assert sorted(int(episode.seed) for episode in EpisodeIndex(tmp_path / "log").episodes()) == [5, 6, 7, 8]
    assert path.read_bytes() == before  # each episode once


def test_rows_that_other_code_decided_are_not_taken_for_those_of_this_one(tmp_path, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(evaluation, "row_sources_hash", lambda: "0123456789ab")
    run(2, 5, 1, keep=tmp_path)
    monkeypatch.undo()
    run(2, 5, 1, keep=tmp_path, watch=lambda row: told.append(row["steps"]))
    assert len(told) == 2
    found = {json.loads(path.read_text().splitlines()[0])["conditions"]["sources"] for path in tmp_path.iterdir()}
    assert found == {"0123456789ab", row_sources_hash()}


def test_a_worker_is_heard_of_at_every_chunk_of_its_episode(tmp_path):
    heard: list[int] = []
    play = make_player(Setup("point", "sim:point", open_point, open_noisy_policy, str(tmp_path)))
    play({"episode": 0, "task": "left", "seed": 5}, lambda: heard.append(1))
    (entry,) = EpisodeIndex(tmp_path).episodes()
    assert len(heard) == entry.chunks > 1


def test_trials_are_episodes_of_each_task_with_the_same_seeds():
    rows = run(3, 40, 2, each=True)["rows"]
    assert [(row["task"], row["seed"]) for row in rows] == [(t, s) for t in ("left", "right") for s in (40, 41, 42)]
    with pytest.raises(FlexorError, match="cannot be skipped"):
        run(3, 40, 1, each=True, skip=1)


def test_other_conditions_are_kept_in_a_file_of_their_own(tmp_path):
    run(2, 5, 1, keep=tmp_path)
    run(2, 5, 1, keep=tmp_path, entropy=False)
    evaluate("point", "sim:point", ("left",), 2, 5, 1, keep=tmp_path, make_robot=open_elsewhere,
             make_policy=open_noisy_policy)  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 3
    assert len({json.loads(path.read_text().splitlines()[0])["conditions"]["shift"]["level"]
                for path in tmp_path.iterdir() if '"shift"' in path.read_text()}) == 1  # fmt: skip


def test_fresh_plays_everything_again(tmp_path):
    run(3, 5, 1, keep=tmp_path)
    (path,) = tmp_path.iterdir()
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"steps":', '"steps":100'), *lines[2:]]) + "\n")
    kept = run(3, 5, 1, keep=tmp_path)["rows"]
    assert kept[0]["steps"] > 100
    assert run(3, 5, 1, keep=tmp_path, fresh=True)["rows"] == run(3, 5, 1)["rows"]


def test_a_file_in_use_damaged_or_of_other_conditions_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    with RowFile(path, {"seed": 1}), pytest.raises(RowFileError, match="being filled"), RowFile(path, {"seed": 1}):
        pass
    with pytest.raises(RowFileError, match="seed 1 instead of 2"), RowFile(path, {"seed": 2}):
        pass
    path.write_text("nonsense\n")
    with pytest.raises(RowFileError, match="no file of rows"), RowFile(path, {"seed": 1}):
        pass


def test_a_manner_sets_when_a_new_chunk_begins_and_is_refused_beyond_the_chunk(tmp_path):
    run(1, 7, 1, tmp_path, manner=Manner(replan=8))
    (entry,) = EpisodeIndex(tmp_path).episodes()
    anchors = [recorded.step for recorded in read_episode(tmp_path / entry.file).chunks]
    assert anchors[:3] == [0, 8, 16]
    with pytest.raises(FlexorError, match="replan is 11 steps; expected 1 to 10"):
        run(1, 7, 1, manner=Manner(replan=11))


def test_a_manner_without_a_speed_limit_plays_actions_as_they_are():
    slow = Manner(guard=GuardSettings(max_speed=0.01))
    assert run(2, 7, 1, manner=slow)["successes"] == 0
    free = run(2, 7, 1, manner=Manner(guard=GuardSettings(max_speed=float("inf"))))
    assert all(row["guard_events"] == 0 for row in free["rows"])
