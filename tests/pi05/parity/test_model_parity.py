"""flexor's Pi0.5 against openpi's own PyTorch model, whose results on the same weights and inputs lie in `data`.

openpi runs three camera slots, masked where there is no camera, and a prompt padded to 200 tokens; flexor runs what is
there. docs/parity.md tells how the results were made, and has those of the whole model.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pi05.parity import ours
from pi05.parity.cases import PADDED_PROMPT, Case
from pi05.parity.records import Record, cosine, kept_cases, largest, load, relative, thin

from flexor.pi05.expert import flow_times
from flexor.pi05.model import Pi05

SMALL = kept_cases("small", "fp32")
NARROW = kept_cases("small", "bf16")
MUST = 1e-5
# What nothing reads after the last layer's keys and values.
DEAD = ("prefix_norm.", "prefix_layers.3.mlp", "prefix_layers.3.attention.q_proj", "prefix_layers.3.attention.o_proj")


@pytest.fixture(scope="module")
def small() -> Pi05:
    torch.set_num_threads(1)
    return ours.build(SMALL[0])


@pytest.fixture(scope="module")
def narrow() -> Pi05:
    torch.set_num_threads(1)
    return ours.build(NARROW[0])


def check(mine: Record, theirs: Record) -> None:
    """Every layer's keys and values, the velocity of every step and the actions agree to MUST."""
    assert np.array_equal(mine["tokens"], theirs["tokens"])
    for what in mine.keys() & {"keys", "values", "velocities"}:
        assert mine[what].shape == theirs[what].shape
        for index, (one, other) in enumerate(zip(mine[what], theirs[what], strict=True)):
            assert max(largest(one, other), relative(one, other)) <= MUST, f"{what} {index + 1}"
    assert max(largest(mine["actions"], theirs["actions"]), relative(mine["actions"], theirs["actions"])) <= MUST


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_every_layer_and_step_equals_openpi(small: Pi05, case: Case) -> None:
    check(thin(ours.record(case, small), case), load(case))


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_prepared_program_equals_openpi(small: Pi05, case: Case) -> None:
    check(thin(ours.record_program(case, small), case), load(case))


def test_masked_cameras_and_padding_change_nothing(small: Pi05) -> None:
    cases = [case for case in SMALL if case.with_state]
    size, pictures, words = small.config.vision.image_size, [], []
    for case in cases:
        images, tokens = ours.prepare(case)
        slots = torch.full((3, 3, size, size), -1.0)
        slots[torch.tensor(case.slots)] = images
        pictures.append(slots)
        words.append(torch.nn.functional.pad(tokens, (0, PADDED_PROMPT - len(tokens))))
    image_mask = torch.tensor([case.slots for case in cases])
    token_mask = torch.arange(PADDED_PROMPT).expand(len(cases), -1) < len(ours.prepare(cases[0])[1])
    with torch.inference_mode():
        prefix = small.encode(torch.stack(pictures), torch.stack(words), image_mask, token_mask)
        noise = torch.stack([case.noise() for case in cases])
        velocity = small.velocity(prefix, noise, torch.ones(noise.shape[:3]))
    assert prefix.mask is not None
    for row, case in enumerate(cases):
        theirs, real = load(case), prefix.mask[row]
        mine = {
            "keys": torch.stack([key[row, 0, real] for key in prefix.keys]).numpy(),
            "values": torch.stack([value[row, 0, real] for value in prefix.values]).numpy(),
        }
        for what, value in thin(mine, case).items():
            assert largest(value, theirs[what]) <= MUST
        assert largest(velocity[row, 0].numpy(), theirs["velocities"][0]) <= MUST


@pytest.mark.parametrize("case", NARROW, ids=lambda case: case.name)
def test_bfloat16_is_no_further_from_float32_than_openpis(narrow: Pi05, case: Case) -> None:
    mine, theirs = thin(ours.record(case, narrow), case), load(case)
    truth = load(next(other for other in SMALL if (other.slots, other.with_state) == (case.slots, case.with_state)))
    for what in ("keys", "values", "velocities", "actions"):
        # Both are noise of the same size; a part computed in the wrong precision would be seen, not a draw of it.
        assert relative(mine[what], truth[what]) <= 1.25 * relative(theirs[what], truth[what]), what
    assert cosine(mine["actions"], theirs["actions"]) >= 0.99999


def test_every_tensor_of_the_comparison_matters(small: Pi05) -> None:
    images, tokens = ours.prepare(SMALL[2])

    def sample() -> NDArray:
        prefix = small.encode(images[None], tokens[None])
        return small.denoise(prefix, SMALL[2].noise(), 1)[0].numpy()

    expected = sample()
    for name, parameter in small.named_parameters():
        if name.startswith(DEAD):
            continue
        kept = parameter.clone()
        # Reversed along its outputs: what a wrong name or a wrong order would do.
        parameter.copy_(kept.flip(0))
        moved = relative(sample(), expected)
        parameter.copy_(kept)
        # Keys have no say in softmax by what all of them share: a bias of theirs is one such part.
        assert moved > 10 * MUST or name.endswith("k_proj.bias"), f"{name}: {moved:.1e}"


def test_flow_times_are_added_as_openpi_adds_them() -> None:
    for steps in (1, 2, 3, 5, 10, 50):
        time, step = np.float32(1.0), np.float32(-1.0 / steps)
        added: list[np.float32] = []
        while time >= -step / 2:
            added.append(time)
            time = np.float32(time + step)
        assert flow_times(steps).tolist() == [*added, 0.0]


@pytest.fixture
def wide() -> Case:
    (case,) = kept_cases("wide", "fp32")
    return case


@pytest.mark.nightly
def test_real_widths_equal_openpi(wide: Case) -> None:
    check(thin(ours.record(wide, ours.build(wide)), wide), load(wide))


@pytest.mark.nightly
def test_real_widths_in_bfloat16_are_no_further_than_openpis(wide: Case) -> None:
    (case,) = kept_cases("wide", "bf16")
    mine, theirs, truth = thin(ours.record(case, ours.build(case)), case), load(case), load(wide)
    for what in ("keys", "values", "velocities", "actions"):
        assert relative(mine[what], truth[what]) <= 1.1 * relative(theirs[what], truth[what]), what
    assert cosine(mine["actions"], truth["actions"]) >= 0.9999
