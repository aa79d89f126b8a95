"""An export is whole or not there: what is killed, refused or damaged leaves no dataset behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.lerobot.exporter import Exported, export_lerobot
from flexor.runtime.episodes.recorder import EpisodeRecorder

KILLED = """
import os, signal, sys
from pathlib import Path
from flexor.runtime.episodes.lerobot.exporter import export_lerobot
die = lambda done, total: done == 2 and os.kill(os.getpid(), signal.SIGKILL)
export_lerobot(Path(sys.argv[1]), Path(sys.argv[2]), told=die)
"""


def test_only_the_episodes_that_were_asked_for_are_exported(root, tmp_path):
    assert export_lerobot(root, tmp_path / "one", outcome="success", task="lift") == Exported(1, 17, ())
    with pytest.raises(EpisodeError, match="has no episode to export"):
        export_lerobot(root, tmp_path / "none", outcome="abort")
    assert not (tmp_path / "none").exists()


def test_an_episode_without_a_step_is_left_out_and_named(root, tmp_path, meta):
    recorder = EpisodeRecorder(root)
    recorder.begin(meta)
    path = recorder.end("abort", None, "recorder")
    assert export_lerobot(root, tmp_path / "set") == Exported(3, 49, (path.stem,))


def test_a_killed_export_leaves_nothing_that_looks_finished_and_the_next_one_sweeps_it(root, tmp_path):
    out = tmp_path / "sets" / "set"
    child = subprocess.run([sys.executable, "-c", KILLED, str(root), str(out)], timeout=100)
    assert child.returncode == -9
    (draft,) = os.listdir(out.parent)
    assert draft.startswith(".set-")
    assert not (out.parent / draft / "meta").exists()
    export_lerobot(root, out)
    assert os.listdir(out.parent) == ["set"]


def test_what_cannot_be_one_dataset_is_refused_and_leaves_nothing(root, tmp_path, record, meta, record_corrected):
    with pytest.raises(EpisodeError, match="is there already"):
        export_lerobot(root, root)
    record_corrected(root, size=32)
    with pytest.raises(EpisodeError, match=r"has Form\(fps=20.*\(32, 32\).*export those of one robot"):
        export_lerobot(root, tmp_path / "mixed")
    record(tmp_path / "odd", size=15).end("success", None, "sim")
    with pytest.raises(EpisodeError, match="15 x 15 px, and h264 needs even numbers; export with lossless"):
        export_lerobot(tmp_path / "odd", tmp_path / "odd-set")
    assert export_lerobot(tmp_path / "odd", tmp_path / "odd-set", video="lossless").episodes == 1
    record(tmp_path / "slow", meta=replace(meta, hz=12.5)).end("success", None, "sim")
    with pytest.raises(EpisodeError, match=r"runs at 12\.5 Hz"):
        export_lerobot(tmp_path / "slow", tmp_path / "slow-set")
    assert sorted(os.listdir(tmp_path)) == ["episodes-root", "odd", "odd-set", "slow"]


def test_a_damaged_episode_is_named_with_the_way_out(root, tmp_path):
    path = sorted((root / "episodes").glob("*.mcap"))[1]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(EpisodeError, match=rf"{path.name} is unfinished or damaged.*verify --repair"):
        export_lerobot(root, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_the_command_tells_what_it_wrote(root, tmp_path):
    arguments = [root, "--format", "lerobot", "--out", tmp_path / "set", "--json", tmp_path / "told.json"]
    command = [sys.executable, "-m", "flexor.cli.main", "episodes", "export", *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert child.returncode == 0, child.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["episodes"], told["frames"], told["out"]) == (3, 49, str(tmp_path / "set"))
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
