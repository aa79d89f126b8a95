"""A checkpoint is whole or not there, and belongs to one run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flexor.learner.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint

IDENTITY: dict[str, object] = {"seed": 0, "data": "abc"}


def checkpoint(step: int) -> Checkpoint:
    tensors = {"model/w": torch.full((2, 3), float(step)), "optimiser/w/step": torch.tensor(float(step))}
    return Checkpoint(step, 1.5, (0.1, 1 / 3), IDENTITY, tensors)


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, checkpoint(7))
    found = read_checkpoint(path, IDENTITY)
    assert (found.step, found.seconds, found.losses) == (7, 1.5, (0.1, 1 / 3))
    assert torch.equal(found.group("model")["w"], torch.full((2, 3), 7.0))
    assert found.group("optimiser")["w/step"].shape == ()


def test_a_write_that_was_broken_off_leaves_the_one_before(tmp_path: Path):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, checkpoint(7))
    path.with_suffix(".part").write_bytes(path.read_bytes()[:50])
    assert read_checkpoint(path, IDENTITY).step == 7
    write_checkpoint(path, checkpoint(8))
    assert read_checkpoint(path, IDENTITY).step == 8
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_another_runs_checkpoint_is_refused_by_what_differs(tmp_path: Path):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, checkpoint(7))
    with pytest.raises(CheckpointError, match="data was 'abc' and is now 'abd'"):
        read_checkpoint(path, {**IDENTITY, "data": "abd"})


def test_a_damaged_checkpoint_says_how_to_start_anew(tmp_path: Path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match="start anew"):
        read_checkpoint(path, IDENTITY)
