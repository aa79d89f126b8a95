"""Processes that train together: what they agree on, that they stay alike, and what happens when one dies."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from flexor.learner.crew import Crew, CrewError, gather
from flexor.learner.demonstrations import load_demonstrations
from flexor.learner.settings import PretrainSettings
from flexor.learner.trainer import Trainer
from flexor.pi05.config import PRESETS

SETTINGS = PretrainSettings(
    preset="pi05-micro", samples=24, batch=8, precision="fp32", held_out=0.2, processes=2, evaluation_samples=8
)


def average(crew: Crew, folder: Path) -> None:
    """Rank r brings r + 1 and ten times that."""
    mine = [torch.full((2, 2), crew.rank + 1.0), torch.tensor([10.0 * (crew.rank + 1)])]
    crew.average(mine)
    said = crew.agree(7.0 if crew.rank == 0 else -1.0)
    np.save(folder / f"{crew.rank}.npy", np.array([*mine[0].flatten().tolist(), *mine[1].tolist(), said]))


def vanish(crew: Crew) -> None:
    """Die like a process that the kernel killed for memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def weights_after(crew: Crew, data: Path, folder: Path) -> None:
    """Three steps, and the digest of what they left."""
    model = PRESETS["pi05-micro"]
    demonstrations = load_demonstrations(data, SETTINGS.cameras, model.vision.image_size, model.horizon)
    trainer = Trainer(demonstrations, SETTINGS, folder / f"run{crew.rank}", crew)
    if crew.rank == 0:
        trainer.run(lambda standing: None)
    else:
        trainer.assist()
    seen = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())).hexdigest()
    first = trainer.batches.draw(0).actions.numpy().tobytes()
    (folder / f"{crew.rank}.txt").write_text(f"{trainer.position} {seen} {hashlib.sha256(first).hexdigest()}")


@pytest.mark.slow
def test_tensors_become_their_mean_and_the_first_ones_word_counts(tmp_path: Path) -> None:
    with gather(2, average, (tmp_path,)) as crew:
        average(crew, tmp_path)
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), [1.5] * 4 + [15.0, 7.0])


@pytest.mark.slow
def test_all_processes_keep_the_same_weights_and_see_other_samples(recordings: Path, tmp_path: Path) -> None:
    with gather(2, weights_after, (recordings, tmp_path)) as crew:
        weights_after(crew, recordings, tmp_path)
    (steps, ours, seen), (also, theirs, unseen) = ((tmp_path / f"{rank}.txt").read_text().split() for rank in (0, 1))
    assert steps == also == "3"
    assert ours == theirs
    assert seen != unseen
    assert (tmp_path / "run0" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "run1" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_with_the_way_out() -> None:
    with pytest.raises(CrewError, match=r"gone or silent.*same command again"), gather(2, vanish, ()) as crew:
        crew.average([torch.zeros(3)])


def test_alone_nothing_is_averaged_and_ones_own_word_counts() -> None:
    crew = Crew()
    mine = torch.ones(3)
    crew.average([mine])
    assert crew.agree(0.5) == 0.5
    assert mine.tolist() == [1.0, 1.0, 1.0]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="batch is 9 and processes is 2"):
        PretrainSettings(samples=9, batch=9, processes=2)
