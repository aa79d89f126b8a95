"""`flexor eval --matrix` and `flexor cl metrics`: from bundles to figures, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = "red_block_on_plate,puck_to_white_mat"
pytestmark = pytest.mark.timeout(300)
FIGURES = ("asr", "bwt", "nbt", "f", "auc")


def flexor(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flexor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=cwd)


@pytest.mark.slow
def test_a_matrix_of_real_bundles_is_played_kept_and_told_again_from_its_file(tmp_path):
    options = ("--sim", "tabletop", "--tasks", TASKS, "--trials", "1", "--no-entropy", "--json", "matrix.json")
    run = flexor("eval", "pi05-nano", "pi05-nano", "--matrix", *options, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    matrix = json.loads((tmp_path / "matrix.json").read_text())
    assert matrix["tasks"] == TASKS.split(",")
    assert [stage["after"] for stage in matrix["stages"]] == matrix["tasks"]
    assert matrix["episodes"] == [[1, 1], [1, 1]]
    assert matrix["successes"][0] == matrix["successes"][1]  # the same bundle
    assert {stage["bundle_hash"] for stage in matrix["stages"]} != {None}
    (kept,) = (tmp_path / "runs" / "eval").iterdir()
    assert len(kept.read_text().splitlines()) == 1 + 2  # the second stage found its episodes kept
    told = flexor("cl", "metrics", "matrix.json", "--json", "-", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)
    assert {name: result[name] for name in FIGURES} == {
        name: figure["value"] for name, figure in matrix["figures"].items()
    }
    assert (result["bwt"], result["nbt"], result["f"]) == (0.0, 0.0, 0.0)


def test_metrics_of_a_matrix_written_by_hand_are_told_in_percent_and_as_json(tmp_path):
    matrix = {
        "schema_version": 1,
        "tasks": ["open the drawer", "close the drawer"],
        "stages": [{"bundle": "b1", "after": "open the drawer"}, {"bundle": "b2", "after": "close the drawer"}],
        "successes": [[9, 0], [5, 8]],
        "episodes": [[10, 10], [10, 10]],
    }
    (tmp_path / "m.json").write_text(json.dumps(matrix))
    run = flexor("cl", "metrics", "m.json", "--json", "out.json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for figure, value in {"ASR": "65.0", "BWT": "-40.0", "NBT": "20.0", "F": "40.0", "AUC": "75.0"}.items():
        assert any(line.split("│")[1:3] == [f" {figure:6} ", f" {value:5} "] for line in run.stdout.splitlines()), (
            figure
        )
    result = json.loads((tmp_path / "out.json").read_text())
    assert {name: result[name] for name in FIGURES} == pytest.approx(
        {"asr": 0.65, "bwt": -0.4, "nbt": 0.2, "f": 0.4, "auc": 0.75}
    )
    assert all(result["ci95"][name][0] < result[name] < result["ci95"][name][1] for name in FIGURES)
    assert result["missing"] == {}


def test_a_partial_matrix_is_told_with_what_is_missing(tmp_path):
    matrix = {"schema_version": 1, "tasks": ["a", "b"], "stages": [{"bundle": "last", "after": "b"}],
              "successes": [[5, 8]], "episodes": [[10, 10]]}  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(matrix))
    run = flexor("cl", "metrics", "m.json", "--json", "-", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["asr"] == pytest.approx(0.65)
    assert result["bwt"] is None and result["missing"]["bwt"] == ["no stage after task 1, a"]
    assert "BWT, NBT, F, AUC: no stage after task 1, a" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pi05-nano", "pi05-nano"), "several need --matrix"),
        (("pi05-nano", "--after", "x"), "add --matrix"),
        (("pi05-nano", "--matrix"), "needs --trials"),
        (("pi05-nano", "--matrix", "--episodes", "4"), "needs --trials"),
        (("pi05-nano", "--matrix", "--trials", "1", "--after", f"{TASKS},-"), "names 3 tasks for 1 bundles"),
        (("pi05-nano", "--matrix", "--trials", "1", "--after", "wash_up"), "nothing is known of task wash_up"),
        (("pi05-nano", "nowhere", "--matrix", "--trials", "1"), "nowhere"),
        (("pi05-nano", "--matrix", "--trials", "1", "--counterfactual"), "drop --counterfactual"),
    ],
)
def test_what_makes_no_matrix_is_refused_in_a_line(tmp_path, arguments: tuple[str, ...], told: str):
    run = flexor("eval", *arguments, cwd=tmp_path)
    assert run.returncode != 0
    assert told in " ".join(run.stderr.replace("│", " ").split())
    assert "Traceback" not in run.stderr
