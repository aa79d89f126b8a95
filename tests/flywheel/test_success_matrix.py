"""The success matrix: played on a point world, stopped and gone on with, written, read and refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from failing_world import open_faulty, open_mortal
from point_world import PointPolicy, open_point

from flexor.flywheel.evaluate import MAX_DEATHS, evaluate
from flexor.flywheel.evaluate_matrix import evaluate_matrix
from flexor.flywheel.matrix_plot import write_matrix_plot
from flexor.flywheel.success_matrix import MatrixError, Stage, SuccessMatrix
from flexor.runtime.worker_pool import WorkerDied

TASKS = ("left", "right")
STREAM = [Stage(bundle="runs/first", after="left"), Stage(bundle="runs/second", after="right")]


class Forgetful(PointPolicy):
    """Knows the way to the right alone, whatever it is asked for."""

    def infer(self, observation: Any, noise_seed: int, action_prefix: Any = None) -> Any:
        return super().infer(type(observation)(observation.images, observation.state, "fly to the right"), noise_seed,
                             action_prefix)  # fmt: skip


def open_stage(bundle: str) -> PointPolicy:
    """The second stage has forgotten what the first could."""
    return Forgetful() if bundle == "runs/second" else PointPolicy()


play = functools.partial(
    evaluate, sim="sim:point", tasks=TASKS, episodes=3, seed=5, workers=1, each=True, entropy=False,
    make_robot=open_point, make_policy=open_stage,
)  # fmt: skip


def matrix_of(*rows: str, tasks: tuple[str, ...] = ("a", "b", "c"), **changes: Any) -> dict[str, Any]:
    """A file: a row a stage, each task learned in turn, counts out of ten."""
    successes = [[int(word) for word in row.split()] for row in rows]
    stages = [{"bundle": f"b{number}", "after": task} for number, task in enumerate(tasks[: len(rows)])]
    episodes = [[10] * len(row) for row in successes]
    return {"schema_version": 1, "tasks": tasks, "stages": stages, "successes": successes, "episodes": episodes,
            **changes}  # fmt: skip


def load(tmp_path: Path, data: Any) -> SuccessMatrix:
    path = tmp_path / "matrix.json"
    path.write_text(json.dumps(data))
    return SuccessMatrix.load(path)


def test_every_stage_plays_every_task_and_the_figures_tell_what_was_forgotten():
    matrix = SuccessMatrix(TASKS, [*STREAM], trials=3)
    result = evaluate_matrix(matrix, play)
    assert result["episodes"] == [[3, 3], [3, 3]]
    assert result["successes"] == [[3, 3], [0, 3]]
    assert result["success_rate"] == [[1.0, 1.0], [0.0, 1.0]]
    assert {name: figure["value"] for name, figure in result["figures"].items()} == {
        "asr": 0.5, "bwt": -1.0, "nbt": 0.5, "f": 1.0, "auc": 0.75,
    }  # fmt: skip
    assert (result["sim"], result["seed"], result["trials"]) == ("sim:point", 5, 3)
    assert [stage["bundle_hash"] for stage in result["stages"]] == ["0" * 64] * 2
    assert [stage["adapter"] for stage in result["stages"]] == [None, None]


def test_what_is_told_is_what_evaluations_of_the_bundles_tell():
    matrix = SuccessMatrix(TASKS, [*STREAM], trials=3)
    rows: list[tuple[int, str, int, bool]] = []
    evaluate_matrix(matrix, play, lambda stage, row: rows.append((stage, row["task"], row["seed"], row["success"])))
    alone = [(number, row["task"], row["seed"], row["success"])
             for number, stage in enumerate(STREAM) for row in play(stage.bundle)["rows"]]  # fmt: skip
    assert sorted(rows) == sorted(alone)


def test_a_matrix_that_is_stopped_keeps_what_it_has_and_goes_on_from_there(tmp_path):
    stopped, results = SuccessMatrix(TASKS, [*STREAM], trials=3), []
    graves = {"grave": str(tmp_path / "grave")}
    mortal = functools.partial(open_mortal, seed=6, lives=MAX_DEATHS + 1, **graves)

    def dies_in_the_second_stage(bundle: str, **watch: Any) -> dict[str, Any]:
        robot = mortal if bundle == "runs/second" else open_point
        return play(bundle, keep=tmp_path / "keep", make_robot=robot, **watch)

    with pytest.raises(WorkerDied):
        evaluate_matrix(stopped, dies_in_the_second_stage, finished=results.append)
    (partial,) = results
    assert partial["episodes"] == [[3, 3], [0, 0]]
    assert stopped.counts[1] == [[0, 1], [0, 0]]  # the episode before the one that kills
    assert "cells with less than 3 episodes: 2 of 4" in stopped.notes()
    again = SuccessMatrix(TASKS, [*STREAM], trials=3)
    told: list[int] = []
    result = evaluate_matrix(
        again, functools.partial(play, keep=tmp_path / "keep"), lambda stage, row: told.append(row["seed"])
    )
    whole = evaluate_matrix(SuccessMatrix(TASKS, [*STREAM], trials=3), play)
    assert {**result, "runs": None} == {**whole, "runs": None}
    assert len(told) == 12
    for kept in (tmp_path / "keep").iterdir():
        assert len(kept.read_text().splitlines()) == 1 + 6  # each episode once


def test_a_robot_that_breaks_down_is_a_failure_in_its_cell_and_is_told():
    matrix = SuccessMatrix(TASKS, STREAM[:1], trials=3)
    faulty = functools.partial(play, make_robot=functools.partial(open_faulty, seed=7))
    result = evaluate_matrix(matrix, faulty)
    assert result["episodes"] == [[3, 3]]
    assert [run["faults"] for run in result["runs"]] == [2]


def test_a_written_matrix_is_read_back_as_it_was(tmp_path):
    matrix = SuccessMatrix(TASKS, [*STREAM, Stage(bundle="base", adapter="runs/lora")], trials=3)
    matrix.add(0, "left", True)
    matrix.add(2, "right", False)
    assert load(tmp_path, matrix.to_dict()) == matrix
    assert matrix.stages[2].name == "base+lora"


def test_rows_may_stand_in_any_order_and_those_outside_of_the_stream_count_for_no_figure(tmp_path):
    straight = matrix_of("9 1 0", "5 8 2", "6 4 10")
    swapped = {
        **straight,
        "stages": [straight["stages"][2], {"bundle": "base"}, straight["stages"][0], straight["stages"][1]],
        "successes": [[6, 4, 10], [1, 1, 1], [9, 1, 0], [5, 8, 2]],
        "episodes": [[10] * 3] * 4,
    }
    assert load(tmp_path, swapped).figures() == load(tmp_path, straight).figures()


def test_a_partial_matrix_says_in_words_what_is_missing(tmp_path):
    matrix = load(tmp_path, matrix_of("9 1 0", "5 8 2"))
    assert matrix.missing(matrix.figures()["bwt"].missing) == ["no stage after task 3, c"]
    data = matrix_of("9 1 0", "5 8 2", "6 4 10")
    data["episodes"][1][0] = data["successes"][1][0] = 0
    holey = load(tmp_path, data)
    figures = holey.figures()
    assert figures["bwt"].value == pytest.approx(-0.35)
    assert holey.missing(figures["nbt"].missing) == ["the stage after task 2, b, has no episode of task 1"]
    assert "cells with no episode: 1 of 9" in holey.notes()


def test_learning_curves_of_all_tasks_make_liberos_own_auc(tmp_path):
    curves = {
        task: {"successes": [0, best], "episodes": [10, 10]} for task, best in zip("abc", (9, 8, 10), strict=True)
    }
    data = matrix_of("9 1 0", "5 8 2", "6 4 10")
    ends, own = load(tmp_path, data), load(tmp_path, {**data, "learning": curves})
    assert own.figures()["auc"].value == pytest.approx(((0.45 + 0.5 + 0.6) / 3 + (0.4 + 0.4) / 2 + 0.5) / 3)
    assert any("LIBERO's own AUC" in note for note in ends.notes())
    assert not any("auc" in note for note in own.notes())
    some = load(tmp_path, {**data, "learning": {"a": curves["a"]}})
    assert some.figures()["auc"] == ends.figures()["auc"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema_version": 2}, "has schema_version 2; expected 1"),
        ({"successes": [[9, 1, 0], [5, 8, 2]]}, "successes has shape"),
        ({"successes": [[9, 1, 0], [5, 8, 2], [6, 4]]}, "successes has shape"),
        ({"successes": [[9, 1, 0], [5, 8, 2], [6, 4, 11]]}, "11 successes of 10 episodes"),
        ({"successes": [[9, 1, 0], [5, 8, 2], [6, 4, -1]]}, "greater than or equal to 0"),
        ({"successes": [[0.9, 1, 0], [5, 8, 2], [6, 4, 1]]}, "valid integer"),
        ({"tasks": ["a", "b", "b"]}, "tasks b are there twice"),
        ({"stages": [{"bundle": "x", "after": "a"}] * 3}, "stages after a are there twice"),
        ({"stages": [{"bundle": "x", "after": "d"}] + [{"bundle": "y"}] * 2}, "nothing is known of task d"),
        ({"learning": {"a": {"successes": [1], "episodes": []}}}, "another number of successes than of episodes"),
        ({"learning": {"a": {"successes": [2], "episodes": [1]}}}, "2 successes of 1 episodes"),
        ({"learning": {"z": {"successes": [1], "episodes": [1]}}}, "nothing is known of task z"),
    ],
)
def test_a_file_that_holds_no_matrix_is_refused_with_the_reason(tmp_path, changes: dict[str, Any], told: str):
    with pytest.raises(MatrixError, match=r"matrix\.json") as error:
        load(tmp_path, {**matrix_of("9 1 0", "5 8 2", "6 4 10"), **changes})
    assert told in str(error.value)


def test_what_is_no_json_or_not_there_is_refused(tmp_path):
    for data in ([], "matrix", {"rows": []}):
        with pytest.raises(MatrixError, match="schema_version None"):
            load(tmp_path, data)
    (tmp_path / "half.json").write_text('{"schema_version": 1, "tas')
    with pytest.raises(MatrixError, match="is not JSON"):
        SuccessMatrix.load(tmp_path / "half.json")
    with pytest.raises(MatrixError, match="cannot be read"):
        SuccessMatrix.load(tmp_path / "nowhere.json")


def test_the_picture_is_darker_where_more_succeeds_and_white_where_nothing_was_played(tmp_path):
    pytest.importorskip("matplotlib")
    import numpy as np
    from PIL import Image

    def darkest(successes: int, episodes: int) -> int:
        data = matrix_of(str(successes), tasks=("a",), stages=[{"bundle": "b"}], episodes=[[episodes]])
        write_matrix_plot(load(tmp_path, data), tmp_path / "plot.png")
        pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)
        blue = (pixels[..., 2] - pixels[..., 0])[:, : pixels.shape[1] // 2]  # without the colour bar
        return int(blue.max())

    assert darkest(10, 10) > darkest(1, 10) > darkest(0, 0) == 0
