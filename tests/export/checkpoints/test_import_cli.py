"""`flexor import` from a shell: a bundle that serves, a report, and errors of one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from foreign_checkpoints import STATS, WRITERS, write_lerobot, write_openpi
from foreign_tensors import write_json

from flexor.runtime.inference.action_space import FRANKA_DELTA_ACTIONS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.policy import Policy
from flexor.runtime.inference.preprocessor import Preprocessor
from flexor.runtime.inference.torch_engine import TorchEngine


def flexor(*arguments: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "flexor", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("origin", WRITERS)
def test_a_checkpoint_becomes_a_bundle_that_answers(origin: str, tmp_path: Path) -> None:
    checkpoint, out, report = WRITERS[origin](tmp_path / "checkpoint"), tmp_path / "my-policy", tmp_path / "report.json"
    result = flexor("import", checkpoint, "--out", out, "--json", report)
    assert result.returncode == 0, result.stderr
    bundle = Bundle.open(out)
    told = json.loads(report.read_text())
    assert (told["origin"], told["hash"], told["dry_run"]) == (origin, bundle.hash, False)
    assert bundle.id in result.stdout
    policy = Policy(bundle, TorchEngine(bundle, "fp32", threads=1, flow_steps=2))
    chunk = policy.infer(Preprocessor(bundle).blank(), noise_seed=1)
    assert chunk.actions.shape == (10, 7) and np.isfinite(chunk.actions).all()


def test_an_error_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint", asset="me/mine")
    result = flexor("import", checkpoint, "--out", tmp_path / "bundle")
    assert result.returncode == 1
    assert result.stderr.startswith("error: nothing tells whether the prompt carries the state")
    assert "--state-in-prompt" in result.stderr and "--no-state-in-prompt" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "bundle").exists()


def test_where_the_bundle_goes_must_be_said(tmp_path: Path) -> None:
    result = flexor("import", write_openpi(tmp_path / "checkpoint"))
    assert result.returncode == 2 and "--dry-run" in result.stderr


def test_options_reach_the_bundle(tmp_path: Path) -> None:
    checkpoint, out = write_lerobot(tmp_path / "checkpoint"), tmp_path / "bundle"
    stats = tmp_path / "norm_stats.json"
    shifted = {name: {key: [v + 1 for v in row] for key, row in rows.items()} for name, rows in STATS.items()}
    write_json(stats, {"norm_stats": shifted})
    robot = {
        "name": "bench arm",
        "cameras": {"front": ["image"], "hand": [], "side": []},
        "state_dim": 8,
        "hz": 10,
        "action_space": FRANKA_DELTA_ACTIONS.to_dict(),
    }
    write_json(tmp_path / "robot.json", robot)
    choices = ("--no-pad-state", "--stats", stats, "--robot", tmp_path / "robot.json", "--camera", "image2=hand")
    result = flexor("import", checkpoint, "--out", out, *choices)
    assert result.returncode == 0, result.stderr
    bundle = Bundle.open(out)
    assert bundle.config.prompt_padding == ()
    assert bundle.cameras == ("front", "hand") and bundle.config.hz == 10
    np.testing.assert_allclose(bundle.normalizers()[0].stats.mean, shifted["state"]["mean"])
    assert bundle.config.origin["slots"] == {"image": "front", "image2": "hand", "empty_camera_0": None}


def test_a_robot_file_with_other_keys_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "robot.json", {"name": "arm"})
    checkpoint = write_openpi(tmp_path / "checkpoint")
    result = flexor("import", checkpoint, "--dry-run", "--robot", tmp_path / "robot.json")
    assert result.returncode == 1 and "expected exactly name, cameras, state_dim, hz, action_space" in result.stderr
    result = flexor("import", checkpoint, "--dry-run", "--robot", "toaster")
    assert result.returncode == 1 and "no robot 'toaster': known are libero" in result.stderr
