"""Drawing parameters: every part of a random model matters, and a model to train starts where it should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flexor.pi05.config import PRESETS
from flexor.pi05.flow import flow_loss
from flexor.pi05.init import initialise, randomise
from flexor.pi05.model import Pi05
from flexor.pi05.program import Program

Draw = Callable[[Pi05, int, int, int], tuple[Tensor, Tensor]]
LAST = PRESETS["pi05-micro"].prefix.depth - 1


def _without_effect(name: str) -> bool:
    """What cannot move an action: the last prefix layer beyond its keys and values, and the biases of SigLIP's keys.

    A bias on every key moves all scores of a query alike, which the softmax does not see.
    """
    dead = ("attention.q_proj", "attention.o_proj", "mlp_norm", "mlp.")
    parts = tuple(f"prefix_layers.{LAST}.{part}" for part in dead)
    return name.startswith((*parts, "prefix_norm")) or name.endswith("k_proj.bias")


@pytest.mark.parametrize("name", [name for name, _ in Pi05(PRESETS["pi05-micro"]).named_parameters()])
def test_each_tensor_moves_the_actions_unless_nothing_reads_it(name: str, micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 1, 2, 9)
    noise = torch.randn(1, 10, 7, generator=torch.Generator().manual_seed(1))

    def actions() -> tuple[Tensor, Tensor]:
        program = Program(micro, steps=3)
        eager = micro.denoise(micro.encode(images, tokens), noise, 3)[0]
        return eager, program.denoise(program.encode(images[0], tokens[0]), noise)[0]

    before = actions()
    parameter = micro.get_parameter(name)
    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    moved = [(new - old).abs().max().item() for new, old in zip(actions(), before, strict=True)]
    if _without_effect(name):
        assert max(moved) <= 1e-6
    else:
        assert min(moved) > 1e-4


def test_the_same_seed_draws_the_same_weights_and_another_seed_others() -> None:
    for draw in (initialise, randomise):
        models = [Pi05(PRESETS["pi05-micro"]) for _ in range(3)]
        for model, seed in zip(models, (1, 1, 2), strict=True):
            draw(model, seed)
        first, again, other = (model.state_dict() for model in models)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["action_in_proj.weight"], other["action_in_proj.weight"])


def test_every_parameter_is_drawn() -> None:
    for draw in (initialise, randomise):
        model = Pi05(PRESETS["pi05-micro"])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        draw(model, 0)
        assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_model_to_train_starts_with_open_gates_and_blind_to_flow_time() -> None:
    model = Pi05(PRESETS["pi05-micro"])
    initialise(model, seed=0)
    with torch.no_grad():
        table = model.modulations(torch.tensor([1.0, 0.2]))
    scale, shift, gate = table.unbind(2)
    assert (scale == 0).all() and (shift == 0).all()
    assert (gate[:-1] == 1).all()


def test_number_tokens_start_as_sines_and_cosines_alike_to_their_neighbours() -> None:
    model = Pi05(PRESETS["pi05-micro"])
    ids = list(range(3, 260))
    initialise(model, seed=0, number_tokens=ids)
    rows = model.token_embedding.weight.detach()[ids]
    unit = rows / rows.norm(dim=-1, keepdim=True)
    alike = (unit @ unit.T)[128]
    assert alike[129] > alike[136] > alike[200]
    assert alike[129] == pytest.approx(alike[127].item(), abs=1e-3)
    width = model.config.prefix.width
    assert (rows.square().mean() * width).item() == pytest.approx(1.0, abs=0.05)


def test_number_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="number tokens reach 512; the vocabulary has 512"):
        initialise(Pi05(PRESETS["pi05-micro"]), seed=0, number_tokens=range(500, 513))


def test_a_fresh_model_learns_a_chunk_by_heart(inputs: Draw) -> None:
    model = Pi05(PRESETS["pi05-micro"])
    initialise(model, seed=0)
    images, tokens = inputs(model, 2, 1, 4)
    actions = torch.linspace(-1, 1, 140).view(2, 10, 7)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(150):
        loss, _ = flow_loss(model, model.encode(images, tokens), actions, 8, 5, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.25 * sum(losses[:10])
