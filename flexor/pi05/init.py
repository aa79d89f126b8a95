"""How parameters are drawn: for training from scratch, and for tests in which every part must matter."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flexor.pi05.expert import AdaRms
from flexor.pi05.gemma import RmsNorm
from flexor.pi05.model import Pi05


@torch.no_grad()
def initialise(model: Pi05, seed: int, number_tokens: Sequence[int] = ()) -> None:
    """Draw parameters for training from scratch, the same for the same seed on every device.

    Linear weights are N(0, 1 / fan_in), biases 0, norms the identity, positions N(0, 0.3). Token embeddings have unit
    variance after Gemma's sqrt(width). The adaRMS Dense starts without dependence on flow time and with every gate at
    1 (openpi: 0, where the expert has to open its gates first).

    Args:
        model: changed in place.
        seed: of the draws.
        number_tokens: ids of consecutive numbers, lowest first (the state bins); their rows become sines and cosines
            of the number, so that neighbours are alike from the first step.

    Raises:
        ValueError: a number token outside the vocabulary.
    """
    generator = torch.Generator().manual_seed(seed)
    _draw_linears(model, generator, bias_std=0.0)
    width = model.config.prefix.width
    _normal(model.token_embedding.weight, 1.0 / math.sqrt(width), generator)
    _normal(model.vision.position_embedding, 0.3, generator)
    for module in model.modules():
        if isinstance(module, RmsNorm):
            module.weight.zero_()
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, AdaRms):
            module.dense.weight.zero_()
            gate = module.dense.bias.unflatten(0, (3, -1))[2]
            gate.fill_(0.0 if module is model.expert.norm else 1.0)
    if number_tokens:
        if not 0 <= min(number_tokens) <= max(number_tokens) < model.config.vocab_size:
            raise ValueError(f"number tokens reach {max(number_tokens)}; the vocabulary has {model.config.vocab_size}")
        rows = _number_rows(len(number_tokens), width) / math.sqrt(width)
        weight = model.token_embedding.weight
        weight[torch.tensor(number_tokens, device=weight.device)] = rows.to(weight)


@torch.no_grad()
def randomise(model: Pi05, seed: int) -> None:
    """Draw parameters so that every part matters: for parity, swap and export tests.

    As `initialise`, but biases, norm weights (about their identity) and the adaRMS Dense come from N(0, 0.02): with the
    reference's zeros every gate would be shut and the expert's layers would contribute nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    _draw_linears(model, generator, bias_std=0.02)
    _normal(model.token_embedding.weight, 1.0 / math.sqrt(model.config.prefix.width), generator)
    _normal(model.vision.position_embedding, 0.02, generator)
    for module in model.modules():
        if isinstance(module, RmsNorm):
            _normal(module.weight, 0.02, generator)
        elif isinstance(module, nn.LayerNorm):
            _normal(module.weight, 0.02, generator)
            module.weight.add_(1.0)
            _normal(module.bias, 0.02, generator)
        elif isinstance(module, AdaRms):
            _normal(module.dense.weight, 0.02, generator)


def draw_named(name: str, shape: torch.Size) -> Tensor:
    """One parameter, drawn from its own name: so that two processes, or a file written piece by piece, hold the same.

    As `randomise`, with two exceptions. The adaRMS Dense of a narrow model is wider: at N(0, 0.02) its gates would be
    nearly shut. Queries are three times as long: at unit length attention is an average over all tokens, in which no
    single one shows.

    Args:
        name: of the parameter in `Pi05`.
        shape: its shape.

    Returns:
        float32.
    """
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name == "token_embedding.weight":
        return drawn.mul_(shape[1] ** -0.5)
    if name == "vision.position_embedding":
        return drawn.mul_(0.02)
    if name.endswith(".dense.weight"):
        return drawn.mul_(max(0.02, 0.5 / math.sqrt(shape[1])))
    if len(shape) == 2:
        return drawn.mul_((3.0 if name.endswith(".attention.q_proj.weight") else 1.0) * shape[1] ** -0.5)
    drawn.mul_(0.02)
    # LayerNorm's identity is 1, that of Gemma's (1 + weight) is 0.
    return drawn.add_(1.0) if re.match(r"vision\..*norm\.weight$", name) else drawn


def _draw_linears(model: Pi05, generator: torch.Generator, bias_std: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            _normal(module.weight, 1.0 / math.sqrt(module.in_features), generator)
            if module.bias is not None:
                _normal(module.bias, bias_std, generator)


def _normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def _number_rows(count: int, width: int) -> Tensor:
    """Sines and cosines of 0..count-1 with unit mean square, float32 [count, width]."""
    numbers = torch.arange(count, dtype=torch.float64)[:, None]
    periods = 4.0 * (2.0 * count / 4.0) ** torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
    angles = numbers * (2.0 * math.pi / periods)
    return (math.sqrt(2.0) * torch.cat((angles.sin(), angles.cos()), dim=-1)).float()
