"""A training process that is killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from flexor.learner.curves import read_curves

STEPS = 24
RECIPE = ["preset=pi05-micro", "precision=fp32", "batch=8", "warmup_steps=4", "log_steps=1", "evaluate_steps=8"]
LIMIT_S = 90.0


def start(data: Path, out: Path, processes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flexor.cli.main", "pretrain", "--data", str(data), "--out", str(out)]
    budget = [
        f"samples={STEPS * 8}",
        "checkpoint_s=0",
        "evaluation_samples=8",
        "held_out=0.2",
        f"processes={processes}",
    ]
    return subprocess.Popen(
        [*command, *RECIPE, *budget], stdout=subprocess.DEVNULL, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )


def rows(out: Path) -> list[dict[str, float]]:
    return read_curves(out.with_name(f"{out.name}.training") / "curves.jsonl")


def numbers(out: Path) -> list[tuple[float, float | None, float | None]]:
    return [(row["step"], row.get("train/loss"), row.get("held_out_episodes/l1_xyz")) for row in rows(out)]


def kill_after(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    """Kill -9 as soon as the curves have reached `step`, at whatever the process is doing then."""
    deadline = time.monotonic() + LIMIT_S
    while not any(row["step"] >= step for row in rows(out)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, f"no step {step} within {LIMIT_S} s"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=LIMIT_S)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("processes", "kills"), [(1, (3, 11)), (2, (7,))])
def test_a_killed_run_ends_with_the_losses_and_weights_of_an_undisturbed_one(
    recordings: Path, tmp_path: Path, processes: int, kills: tuple[int, ...]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(recordings, whole, processes).wait(timeout=LIMIT_S) == 0
    for step in kills:
        process = start(recordings, broken, processes)
        kill_after(process, broken, step)
        assert not broken.exists()
    assert start(recordings, broken, processes).wait(timeout=LIMIT_S) == 0
    assert numbers(broken) == numbers(whole)
    assert [step for step, loss, _ in numbers(whole) if loss is not None] == list(range(1, STEPS + 1))
    ours, theirs = (load_file(tmp_path / f"{name}.training" / "checkpoint.safetensors") for name in ("broken", "whole"))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
