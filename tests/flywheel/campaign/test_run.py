"""`flexor campaign` with real commands in real processes: filled, killed, resumed, told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measurements import played

from flexor.flywheel.campaign.results_file import ResultsFile, read_measurements
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle, find_bundle

FLEXOR = [sys.executable, "-m", "flexor.cli.main"]
MARK = "CAMPAIGN_TEST"
DEADLINE_S = 90.0

EXPERTS = """
slice: 2
cells:
  - name: expert
    kind: oracle
    options: {episodes: 3, seed: 5000, workers: 1}
    matrix: {tasks: ["red_block_on_plate,blue_block_on_plate"]}
"""


class Folder:
    """A campaign file with its results, and commands on it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.file, self.results = folder / "some.yaml", folder / "results" / "some.jsonl"
        self.file.write_text(text)
        self.mark = uuid.uuid4().hex
        self._environment = {**os.environ, MARK: self.mark}

    def command(self, verb: str, *options: str) -> list[str]:
        return [*FLEXOR, "campaign", verb, str(self.file), "--results", str(self.results.parent), *options]

    def call(self, verb: str, *options: str, code: int = 0) -> tuple[dict[str, Any], str]:
        """The JSON of a command that ends with `code`, and what it told on standard error."""
        command = self.command(verb, *options, "--json", "-")
        run = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=self._environment)
        assert run.returncode == code, run.stderr
        return json.loads(run.stdout) if run.stdout else {}, run.stderr

    def start(self) -> subprocess.Popen[bytes]:
        """A run that goes on."""
        return subprocess.Popen(self.command("run"), stderr=subprocess.DEVNULL, env=self._environment)

    def processes(self) -> list[int]:
        """Ids of the processes that a command on this folder has started and that still live."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it has just ended, or belongs to somebody else
                continue
        return found


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Wait for something that must happen."""
    until = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def oracle_alone(folder: Path, *options: str) -> dict[str, Any]:
    """The JSON of `flexor oracle`, typed by hand."""
    out = folder / "oracle.json"
    subprocess.run(
        [*FLEXOR, "oracle", *options, "--json", str(out)], check=True, capture_output=True, timeout=DEADLINE_S
    )
    return json.loads(out.read_bytes())


def test_slices_together_are_what_one_call_measures_and_a_second_run_finds_nothing_to_do(tmp_path: Path):
    folder = Folder(tmp_path, EXPERTS)
    filled, told = folder.call("run")
    assert (filled["measured"], filled["missing"], filled["failures"]) == (2, 0, [])
    assert "seeds 5000-5001: " in told
    tasks = "red_block_on_plate,blue_block_on_plate"
    alone = oracle_alone(tmp_path, "--episodes", "3", "--seed", "5000", "--tasks", tasks)
    episodes = {5000 + i: e for m in read_measurements(folder.results) for i, e in m.episodes().items()}
    assert {seed: (e.task, e.outcomes["success"]) for seed, e in episodes.items()} == {
        row["seed"]: (row["task"], row["success"]) for row in alone["rows"]
    }
    assert [row["task"] for row in alone["rows"]] == [tasks.split(",")[i] for i in (0, 1, 0)]
    before = folder.results.read_bytes()
    filled, _ = folder.call("run")
    assert (filled["measured"], filled["missing"]) == (0, 0)
    assert folder.results.read_bytes() == before
    table, _ = folder.call("table")
    (row,) = table["cells"]
    assert (row["episodes"], row["successes"], row["ci95"]) == (3, alone["successes"], alone["ci95"])
    assert row["missing"] == 0
    people = subprocess.run(folder.command("table"), capture_output=True, text=True, timeout=DEADLINE_S)
    assert f"{alone['successes']} of 3" in people.stdout


TWO = """
slice: {slice}
cells:
  - {{name: quick, kind: oracle, options: {{episodes: 2, seed: 5000, workers: 1}}}}
  - {{name: long, kind: oracle, options: {{episodes: {episodes}, seed: 5100, workers: 1}}}}
"""


def test_kill_9_loses_the_slice_under_way_alone_and_ends_its_processes(tmp_path: Path):
    folder = Folder(tmp_path, TWO.format(slice=4000, episodes=4000))
    running = folder.start()
    wait_until(lambda: folder.results.exists() and bool(read_measurements(folder.results)), "no first result")
    wait_until(lambda: len(folder.processes()) > 2, "no second slice with its worker")
    os.kill(running.pid, signal.SIGKILL)
    running.wait(DEADLINE_S)
    wait_until(lambda: folder.processes() == [], "processes outlive the run that started them")
    kept = read_measurements(folder.results)
    assert [(m.cell, m.n) for m in kept] == [("quick", 2)]
    with folder.results.open("ab") as stream:
        stream.write(b'{"cell":"long"')  # as a kill in the middle of a write would leave it
    folder.file.write_text(TWO.format(slice=1, episodes=2))
    filled, _ = folder.call("run")
    assert (filled["measured"], filled["missing"]) == (2, 0)
    after = read_measurements(folder.results)
    assert after[:1] == kept
    assert [(m.cell, m.first, m.n) for m in after[1:]] == [("long", 0, 1), ("long", 1, 1)]


def test_ctrl_c_ends_the_run_and_what_it_has_started(tmp_path: Path):
    folder = Folder(tmp_path, TWO.format(slice=4000, episodes=4000))
    running = folder.start()
    wait_until(lambda: folder.results.exists() and bool(read_measurements(folder.results)), "no first result")
    os.kill(running.pid, signal.SIGINT)
    assert running.wait(DEADLINE_S) == 130
    wait_until(lambda: folder.processes() == [], "processes outlive the run that started them")
    assert [m.cell for m in read_measurements(folder.results)] == ["quick"]


def test_two_runs_at_once_refuse_each_other(tmp_path: Path):
    folder = Folder(tmp_path, EXPERTS)
    with ResultsFile(folder.results):
        _, told = folder.call("run", code=1)
        assert "error: " in told and "is being filled by another flexor" in told
        folder.call("table")  # reading is free
    assert read_measurements(folder.results) == []


def test_a_cell_that_fails_is_told_with_its_exit_code_and_the_others_are_measured(tmp_path: Path):
    failing = """
  - {name: unknown-task, kind: oracle, options: {episodes: 2, seed: 5000, tasks: nowhere}}
  - {name: no-option, kind: oracle, options: {episodes: 2, seed: 5000, shape: round}}
  - {name: no-bundle, kind: eval, options: {bundle: nowhere, episodes: 1, seed: 5000}}
  - {name: last, kind: oracle, options: {episodes: 1, seed: 5000, workers: 1}}
"""
    folder = Folder(tmp_path, "cells:" + failing)
    filled, told = folder.call("run", code=1)
    found = {failure["cell"]: (failure["exit_code"], failure["error"]) for failure in filled["failures"]}
    assert list(found) == ["no-bundle", "unknown-task", "no-option"]
    assert found["unknown-task"][0] == 1 and "unknown tabletop task 'nowhere'" in found["unknown-task"][1]
    assert found["no-option"][0] == 2 and "--shape" in found["no-option"][1]
    assert found["no-bundle"][0] is None and "no bundle 'nowhere'" in found["no-bundle"][1]
    assert "3 of 4 cells failed: no-bundle, unknown-task, no-option" in told
    assert [m.cell for m in read_measurements(folder.results)] == ["last"]
    assert (filled["measured"], filled["missing"]) == (1, 3)


def test_when_the_time_is_up_the_slice_under_way_is_ended_with_its_workers_and_leaves_nothing(tmp_path: Path):
    folder = Folder(tmp_path, "cells: [{name: long, kind: oracle, options: {episodes: 4000, seed: 5000, workers: 2}}]")
    filled, told = folder.call("run", "--minutes", "0.05")
    assert (filled["measured"], filled["missing"], filled["failures"]) == (0, 1, [])
    assert "the time is up" in told
    assert read_measurements(folder.results) == []
    wait_until(lambda: folder.processes() == [], "workers outlive the run")


def test_a_slice_that_would_not_be_done_in_time_is_left_for_later_and_others_are_measured(tmp_path: Path):
    text = """
slice: 1
cells:
  - {name: hours, kind: oracle, options: {episodes: 2, seed: 5000, workers: 1}}
  - {name: quick, kind: oracle, options: {episodes: 1, seed: 5100, workers: 1}}
"""
    folder = Folder(tmp_path, text)
    with ResultsFile(folder.results) as results:
        results.append(played(0, "1", seconds=7200.0))
    filled, _ = folder.call("run", "--minutes", "2")
    assert (filled["measured"], filled["missing"], filled["postponed"]) == (1, 1, ["hours"])


@pytest.mark.slow
def test_a_changed_bundle_makes_its_cells_missing_again(tmp_path: Path):
    bundle = tmp_path / "bundle"
    shutil.copytree(find_bundle("pi05-nano"), bundle)
    options = f"{{bundle: {bundle}, episodes: 1, seed: 5000, entropy: false, tasks: red_block_on_plate}}"
    folder = Folder(tmp_path, f"cells: [{{name: policy, kind: eval, options: {options}}}]")
    filled, _ = folder.call("run", "--minutes", "1")
    assert (filled["measured"], filled["missing"], filled["failures"]) == (1, 0, [])
    (measured,) = read_measurements(folder.results)
    bundle_hash = Bundle.open(bundle).hash
    assert measured.bundle_hash == bundle_hash
    assert measured.command == f"flexor eval {bundle} --episodes 1 --seed 5000 --no-entropy --tasks red_block_on_plate"
    about = json.loads((bundle / BUNDLE_JSON).read_bytes())
    (bundle / BUNDLE_JSON).write_text(json.dumps(about | {"name": "another"}))
    table, _ = folder.call("table")
    assert table["cells"][0]["missing"] == 1
    assert table["cells"][0]["success_rate"] is None
    assert table["notes"] == ["nothing there yet: policy", f"not shown: 1 result of other bundles, {bundle_hash[:12]}"]
    filled, _ = folder.call("run", "--minutes", "0")
    assert (filled["measured"], filled["missing"]) == (0, 1)
