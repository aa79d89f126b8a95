"""Sampling: Euler steps from noise to actions, clamped prefix or none; the prepared program does the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix
from flexor.pi05.program import Program

Draw = Callable[[Pi05, int, int, int], tuple[Tensor, Tensor]]


def _plain_loop(model: Pi05, prefix: Prefix, noise: Tensor, steps: int, action_prefix: Tensor) -> tuple[Tensor, Tensor]:
    """Euler written from the definition, one chunk at a time, time falling by 1 / steps."""
    chunks, velocities, clamped = [], [], len(action_prefix)
    for chunk in noise:
        x, rows = chunk.clone(), []
        for step in range(steps):
            time = torch.full((1, 1, noise.shape[1]), 1.0 - step / steps)
            time[..., :clamped] = 0.0
            x[:clamped] = action_prefix
            rows.append(model.velocity(prefix, x[None, None], time)[0, 0])
            x = x - rows[-1] / steps
        x[:clamped] = action_prefix
        chunks.append(x)
        velocities.append(torch.stack(rows))
    return torch.stack(chunks), torch.stack(velocities, dim=1)


@pytest.mark.parametrize("clamped", [0, 1, 5])
@pytest.mark.parametrize("count", [1, 8])
def test_denoise_equals_a_plain_euler_loop(micro: Pi05, inputs: Draw, count: int, clamped: int) -> None:
    prefix = micro.encode(*inputs(micro, 1, 2, 6))
    noise, held = torch.randn(count, 10, 7), torch.randn(clamped, 7)
    actions, velocities = micro.denoise(prefix, noise, 10, held if clamped else None)
    expected = _plain_loop(micro, prefix, noise, 10, held)
    assert velocities.shape == (10, count, 10, 7)
    assert (actions - expected[0]).abs().max() <= 1e-5
    assert (velocities - expected[1]).abs().max() <= 1e-5


@pytest.mark.parametrize("clamped", [0, 1, 5])
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("preset", ["pi05-micro", "pi05-nano"])
def test_the_prepared_program_equals_the_model(inputs: Draw, preset: str, count: int, clamped: int) -> None:
    model = Pi05(PRESETS[preset])
    randomise(model, seed=4)
    images, tokens = inputs(model, 1, 2, 9)
    noise, held = torch.randn(count, 10, 7), torch.randn(clamped, 7)
    expected = model.denoise(model.encode(images, tokens), noise, 7, held if clamped else None)
    program = Program(model, steps=7)
    found = program.denoise(program.encode(images[0], tokens[0]), noise, held if clamped else None)
    assert (found[0] - expected[0]).abs().max() <= 1e-5
    assert (found[1] - expected[1]).abs().max() <= 1e-5


def test_a_released_model_is_in_memory_once_and_gives_the_same_program(inputs: Draw) -> None:
    kept, released = Pi05(PRESETS["pi05-micro"]), Pi05(PRESETS["pi05-micro"])
    for model in (kept, released):
        randomise(model, seed=4)
        model.eval().requires_grad_(False)
    first, second = Program(kept, steps=2), Program(released, steps=2, release=True)
    assert not [*released.prefix_layers.parameters(), *released.vision.layers.parameters()]
    (images, tokens), noise = inputs(kept, 1, 2, 9), torch.randn(1, 10, 7)
    one, other = (program.encode(images[0], tokens[0]) for program in (first, second))
    assert torch.equal(first.denoise(one, noise)[0], second.denoise(other, noise)[0])


def test_a_prefix_serves_many_samplings_in_any_order(micro: Pi05, inputs: Draw) -> None:
    program = Program(micro, steps=4)
    images, tokens = inputs(micro, 1, 2, 6)
    first, second = program.encode(images[0], tokens[0]), program.encode(-images[0], tokens[0])
    noise = torch.randn(1, 10, 7)
    before = program.denoise(first, noise)[0]
    assert not torch.allclose(program.denoise(second, noise)[0], before)
    program.denoise(first, torch.randn(8, 10, 7))
    assert torch.equal(program.denoise(first, noise)[0], before)


def test_clamped_actions_stay_exactly_what_was_given(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 1, 1, 6)
    held, noise = torch.randn(3, 7), torch.randn(4, 10, 7)
    program = Program(micro, steps=5)
    for actions, _ in (
        micro.denoise(micro.encode(images, tokens), noise, 5, held),
        program.denoise(program.encode(images[0], tokens[0]), noise, held),
    ):
        assert all(torch.equal(chunk[:3], held) for chunk in actions)


def test_clamped_actions_steer_the_rest(micro: Pi05, inputs: Draw) -> None:
    prefix = micro.encode(*inputs(micro, 1, 1, 6))
    noise = torch.randn(1, 10, 7)
    free, _ = micro.denoise(prefix, noise, 5)
    held, _ = micro.denoise(prefix, noise, 5, torch.full((3, 7), 2.0))
    assert (free[:, 3:] - held[:, 3:]).abs().max() > 1e-3


def test_the_given_noise_is_not_changed(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 1, 1, 6)
    noise = torch.randn(1, 10, 7)
    kept = noise.clone()
    micro.denoise(micro.encode(images, tokens), noise, 3, torch.zeros(2, 7))
    program = Program(micro, steps=3)
    program.denoise(program.encode(images[0], tokens[0]), noise, torch.zeros(2, 7))
    assert torch.equal(noise, kept)


def test_wrong_requests_are_refused_by_name(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 2, 1, 4)
    one, two = micro.encode(images[:1], tokens[:1]), micro.encode(images, tokens)
    noise, program = torch.randn(1, 10, 7), Program(micro, steps=2)
    encoded = program.encode(images[0], tokens[0])
    with pytest.raises(ValueError, match="a prefix of one sample, this one holds 2"):
        micro.denoise(two, noise, 10)
    with pytest.raises(ValueError, match="flow steps are 0"):
        micro.denoise(one, noise, 0)
    for wrong in (noise[..., :6], noise[:, :9], noise[0]):
        with pytest.raises(ValueError, match=r"noise has shape .*; expected \[N, 10, 7\]"):
            micro.denoise(one, wrong, 10)
        with pytest.raises(ValueError, match=r"noise has shape .*; expected \[N, 10, 7\]"):
            program.denoise(encoded, wrong)
    for wrong in (torch.zeros(10, 7), torch.zeros(2, 6), torch.zeros(7)):
        with pytest.raises(ValueError, match=r"action_prefix has shape .*; expected \[d, 7\] with d below 10"):
            micro.denoise(one, noise, 10, wrong)
        with pytest.raises(ValueError, match="action_prefix has shape"):
            program.denoise(encoded, noise, wrong)


def test_a_program_refuses_what_it_cannot_prepare(micro: Pi05) -> None:
    with pytest.raises(ValueError, match="flow steps are 0"):
        Program(micro, steps=0)
    with pytest.raises(ValueError, match="precision is 'int4'; expected one of fp32, bf16, int8"):
        Program(micro, steps=2, expert="int4")
    config = micro.config
    grouped = replace(config, prefix=replace(config.prefix, kv_heads=2), expert=replace(config.expert, kv_heads=2))
    with pytest.raises(ValueError, match="kv_heads is 2; a program needs 1"):
        Program(Pi05(grouped), steps=2)
