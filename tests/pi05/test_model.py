"""The two programs together are one Pi0.5: every shortcut gives the numbers of the joint pass written plainly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05

Draw = Callable[[Pi05, int, int, int], tuple[Tensor, Tensor]]
Plain = Callable[..., Tensor]


def _actions(batch: int, draws: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, draws, 10, 7, generator=generator)
    return x, torch.rand(batch, draws, 1, generator=generator).expand(-1, -1, 10).contiguous()


def test_two_programs_equal_the_joint_pass(micro: Pi05, inputs: Draw, plain_velocity: Plain) -> None:
    images, tokens = inputs(micro, 3, 2, 9)
    x, time = _actions(3, 1)
    real = torch.ones(3, 2, dtype=torch.bool), torch.ones(3, 9, dtype=torch.bool)
    expected = plain_velocity(micro, images, tokens, *real, x[:, 0], time[:, 0])
    velocity = micro.velocity(micro.encode(images, tokens), x, time)[:, 0]
    assert (velocity - expected).abs().max() <= 1e-5
    assert expected.std() > 0.3


def test_several_key_heads_equal_the_joint_pass(micro: Pi05, inputs: Draw, plain_velocity: Plain) -> None:
    config = micro.config
    model = Pi05(replace(config, prefix=replace(config.prefix, kv_heads=2), expert=replace(config.expert, kv_heads=2)))
    randomise(model, seed=5)
    images, tokens = inputs(model, 2, 1, 6)
    x, time = _actions(2, 3)
    real = torch.ones(2, 1, dtype=torch.bool), torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        velocity = model.velocity(model.encode(images, tokens), x, time)
        for draw in range(3):
            expected = plain_velocity(model, images, tokens, *real, x[:, draw], time[:, draw])
            assert (velocity[:, draw] - expected).abs().max() <= 1e-5


def test_a_flow_time_for_every_token_equals_the_joint_pass(micro: Pi05, inputs: Draw, plain_velocity: Plain) -> None:
    images, tokens = inputs(micro, 2, 1, 5)
    x, _ = _actions(2, 1)
    time = torch.rand(2, 1, 10)
    time[:, :, :3] = 0.0
    real = torch.ones(2, 1, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    expected = plain_velocity(micro, images, tokens, *real, x[:, 0], time[:, 0])
    assert (micro.velocity(micro.encode(images, tokens), x, time)[:, 0] - expected).abs().max() <= 1e-5


def test_dropped_camera_and_padding_equal_the_masked_joint_pass(
    micro: Pi05, inputs: Draw, plain_velocity: Plain
) -> None:
    images, tokens = inputs(micro, 1, 3, 12)
    x, time = _actions(1, 1)
    image_mask, token_mask = torch.tensor([[True, False, True]]), torch.arange(12)[None] < 8
    prefix = micro.encode(images, tokens, image_mask, token_mask)
    assert prefix.mask is None
    assert prefix.keys[0].shape[2] == 2 * micro.config.vision.tokens + 8
    expected = plain_velocity(micro, images, tokens, image_mask, token_mask, x[:, 0], time[:, 0])
    assert (micro.velocity(prefix, x, time)[:, 0] - expected).abs().max() <= 1e-5


def test_a_batch_with_different_masks_equals_the_masked_joint_pass(
    micro: Pi05, inputs: Draw, plain_velocity: Plain
) -> None:
    images, tokens = inputs(micro, 3, 3, 12)
    x, time = _actions(3, 1)
    image_mask = torch.tensor([[True, False, True], [True, False, False], [True, False, True]])
    token_mask = torch.arange(12) < torch.tensor([[10], [4], [7]])
    prefix = micro.encode(images, tokens, image_mask, token_mask)
    assert prefix.mask is not None and prefix.mask.shape == (3, 2 * micro.config.vision.tokens + 10)
    assert prefix.offset.tolist() == [18, 8, 15]
    expected = plain_velocity(micro, images, tokens, image_mask, token_mask, x[:, 0], time[:, 0])
    assert (micro.velocity(prefix, x, time)[:, 0] - expected).abs().max() <= 1e-5


def test_what_a_masked_camera_or_padding_shows_changes_nothing(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 2, 2, 8)
    x, time = _actions(2, 1)
    image_mask = torch.tensor([[True, True], [True, False]])
    token_mask = torch.arange(8) < torch.tensor([[8], [5]])
    before = micro.velocity(micro.encode(images, tokens, image_mask, token_mask), x, time)
    images[1, 1], tokens[1, 5:] = 0.3, 9
    assert torch.equal(micro.velocity(micro.encode(images, tokens, image_mask, token_mask), x, time), before)
    images[1, 0] = 0.3
    assert not torch.allclose(micro.velocity(micro.encode(images, tokens, image_mask, token_mask), x, time), before)


def test_draws_on_one_prefix_equal_separate_passes(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 2, 2, 8)
    token_mask = torch.arange(8) < torch.tensor([[8], [5]])
    prefix = micro.encode(images, tokens, None, token_mask)
    x, time = _actions(2, 4)
    together = micro.velocity(prefix, x, time)
    for draw in range(4):
        alone = micro.velocity(prefix, x[:, draw : draw + 1], time[:, draw : draw + 1])
        assert (together[:, draw] - alone[:, 0]).abs().max() <= 1e-5


def test_an_expanded_prefix_equals_draws_on_one(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 1, 2, 8)
    prefix = micro.encode(images, tokens)
    x, time = _actions(1, 4)
    expanded = micro.velocity(prefix.expand(4), x.transpose(0, 1), time.transpose(0, 1))
    assert (expanded[:, 0] - micro.velocity(prefix, x, time)[0]).abs().max() <= 1e-5


def test_only_a_prefix_of_one_sample_can_be_expanded(micro: Pi05, inputs: Draw) -> None:
    with pytest.raises(ValueError, match="this one holds 2"):
        micro.encode(*inputs(micro, 2, 1, 4)).expand(3)


def test_modulations_do_not_depend_on_the_company_they_are_computed_in(micro: Pi05) -> None:
    times = torch.tensor([1.0, 0.5, 0.001, 0.0])
    table = micro.modulations(times)
    assert table.shape == (2 * micro.config.expert.depth + 1, 4, 3, micro.config.expert.width)
    for index in range(4):
        assert (table[:, index] - micro.modulations(times[index : index + 1])[:, 0]).abs().max() <= 1e-6
    assert (table[:, 0] - table[:, 3]).abs().max() > 1e-3


def test_actions_never_change_the_prefix_and_the_expert_learns_without_its_gradient(micro: Pi05, inputs: Draw) -> None:
    micro.requires_grad_(True)
    with torch.no_grad():
        prefix = micro.encode(*inputs(micro, 2, 1, 4))
    micro.velocity(prefix, *_actions(2, 2)).square().mean().backward()
    learned = {name for name, p in micro.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    parts = ("expert.", "action_in_proj", "action_out_proj", "time_mlp")
    assert learned == {name for name, _ in micro.named_parameters() if name.startswith(parts)}


def test_bfloat16_weights_give_nearly_the_same_velocity(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 2, 1, 4)
    x, time = _actions(2, 2)
    exact = micro.velocity(micro.encode(images, tokens), x, time)
    micro.bfloat16()
    rough = micro.velocity(micro.encode(images, tokens), x, time)
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact.flatten(), rough.flatten(), dim=0) > 0.999


def test_shapes_that_do_not_fit_are_refused_by_name(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 2, 1, 4)
    x, time = _actions(2, 1)
    prefix = micro.encode(images, tokens)
    with pytest.raises(ValueError, match=r"images have shape \[2, 3, 32, 32\]; expected \[B, cameras, 3, 32, 32\]"):
        micro.encode(images[:, 0], tokens)
    with pytest.raises(ValueError, match=r"tokens have shape \[1, 4\]; expected \[2, T\]"):
        micro.encode(images, tokens[:1])
    with pytest.raises(ValueError, match=r"x has shape \[2, 1, 10, 6\]; expected \[2, K, H, 7\]"):
        micro.velocity(prefix, x[..., :6], time)
    with pytest.raises(ValueError, match=r"time has shape \[2, 1, 9\]; expected \[2, 1, 10\]"):
        micro.velocity(prefix, x, time[..., :9])
