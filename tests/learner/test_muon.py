"""Our Muon takes the steps of PyTorch's, alone and shared between processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flexor.learner.crew import Crew, gather
from flexor.learner.muon import Muon, orthogonalise

SHAPES = ((24, 16), (16, 24), (8, 8), (24, 16), (40, 8), (8, 8))
STEPS = 6


def matrices() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in SHAPES]


def train(parameters: list[Tensor], optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """How far each parameter went in a few steps of equal gradients; one never gets any."""
    before = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        parameters[2].grad = None
        optimiser.step()
    return [parameter.detach() - start for parameter, start in zip(parameters, before, strict=True)]


def our_way(crew: Crew | None = None) -> list[Tensor]:
    parameters = matrices()
    return train(parameters, Muon(parameters, lr=0.01, momentum=0.9, weight_decay=0.1, crew=crew))


def keep_our_way(crew: Crew, folder: Path) -> None:
    np.savez(folder / f"{crew.rank}.npz", *[moved.numpy() for moved in our_way(crew)])


def test_the_steps_are_those_of_pytorchs_muon() -> None:
    parameters = matrices()
    theirs = torch.optim.Muon(parameters, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for ours, expected in zip(our_way(), train(parameters, theirs), strict=True):
        assert (ours - expected).norm() <= 0.02 * expected.norm()  # both orthogonalise in bfloat16


def test_what_has_no_gradient_stays() -> None:
    moved = our_way()
    assert not moved[2].any()
    assert all(other.any() for place, other in enumerate(moved) if place != 2)


def test_singular_values_come_near_one() -> None:
    values = torch.linalg.svdvals(
        orthogonalise(torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))).float()
    )
    assert ((values > 0.6) & (values < 1.3)).all()


@pytest.mark.slow
def test_two_processes_that_share_the_work_agree_and_step_as_one_alone(tmp_path: Path) -> None:
    with gather(2, keep_our_way, (tmp_path,)) as crew:
        keep_our_way(crew, tmp_path)
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    for name, alone in zip(first.files, our_way(), strict=True):
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], alone.numpy(), atol=0.01 * float(alone.abs().max()) + 1e-9)
