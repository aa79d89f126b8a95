"""Which parameters Muon takes, how the rate goes, and that a loaded state goes on as the one that was saved."""

from __future__ import annotations

import pytest
import torch

from flexor.errors import FlexorError
from flexor.learner.optimiser import Average, Optimiser, is_hidden_matrix
from flexor.learner.settings import PretrainSettings
from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05

SETTINGS = PretrainSettings(preset="pi05-micro", samples=1, warmup_steps=10, final_lr=0.1)


def micro(seed: int = 0) -> Pi05:
    model = Pi05(PRESETS["pi05-micro"])
    randomise(model, seed)
    return model


def push(model: Pi05, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_muon_takes_every_matrix_of_every_layer_and_nothing_else():
    names = {name for name, parameter in micro().named_parameters() if is_hidden_matrix(name, parameter)}
    for stack in ("vision.layers.1.fc1", "prefix_layers.1.mlp.up_proj", "expert.layers.1.attention_norm.dense"):
        assert f"{stack}.weight" in names
    for other in ("token_embedding", "projector", "action_in_proj", "action_out_proj", "time_mlp_in", "vision.patch_"):
        assert not any(name.startswith(other) for name in names)


def test_a_step_changes_every_parameter():
    model = micro()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    push(model, 1)
    Optimiser(model, SETTINGS).step(1.0)
    assert [name for name, parameter in model.named_parameters() if torch.equal(before[name], parameter)] == []


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_refused_and_changes_no_weight(wrong: float):
    model = micro()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    push(model, 1)
    gradient = model.action_out_proj.bias.grad
    assert gradient is not None
    gradient[0] = wrong
    with pytest.raises(FlexorError, match="norm of the gradients"):
        Optimiser(model, SETTINGS).step(1.0)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_the_rate_warms_up_and_falls_to_its_final_share():
    optimiser = Optimiser(micro(), SETTINGS)
    assert optimiser.rate(0, 0.0) == pytest.approx(0.1)
    assert optimiser.rate(9, 0.0) == pytest.approx(1.0)
    assert optimiser.rate(99, 0.5) == pytest.approx(0.55)
    assert optimiser.rate(99, 1.0) == optimiser.rate(99, 1.3) == pytest.approx(0.1)


def test_a_loaded_state_takes_the_same_next_step():
    first, second = micro(), micro()
    trained, resumed = Optimiser(first, SETTINGS), Optimiser(second, SETTINGS)
    push(first, 1)
    trained.step(1.0)
    second.load_state_dict(first.state_dict())
    resumed.load({name: tensor.clone() for name, tensor in trained.tensors().items()})
    for model, optimiser in ((first, trained), (second, resumed)):
        push(model, 2)
        optimiser.step(0.5)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name


def test_a_state_of_another_model_is_refused():
    with pytest.raises(ValueError, match="no parameter 'gripper'"):
        Optimiser(micro(), SETTINGS).load({"gripper/exp_avg": torch.zeros(1)})


def test_the_average_is_short_at_first_and_long_later():
    model = micro()
    average = Average(model, 0.9)
    name, parameter = next(iter(model.named_parameters()))
    start = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(1.0)
    average.follow(0)
    torch.testing.assert_close(average.model.get_parameter(name), start + 0.9)
    average.follow(10_000)
    torch.testing.assert_close(average.model.get_parameter(name), start + 0.91)
