"""Models with random weights, and Pi0.5 as one joint forward pass, written as plainly as possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05


@pytest.fixture(autouse=True)
def one_thread_and_fixed_draws() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def micro() -> Pi05:
    model = Pi05(PRESETS["pi05-micro"])
    randomise(model, seed=3)
    return model.eval().requires_grad_(False)


@pytest.fixture
def inputs() -> Callable[[Pi05, int, int, int], tuple[Tensor, Tensor]]:
    """Draws images [B, V, 3, S, S] and tokens [B, T] for a model."""

    def draw(model: Pi05, batch: int, cameras: int, count: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(11)
        size = model.config.vision.image_size
        images = torch.rand(batch, cameras, 3, size, size, generator=generator) * 2 - 1
        return images, torch.randint(0, model.config.vocab_size, (batch, count), generator=generator)

    return draw


def _rms(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def _turn(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """x [B, T, heads, D] by positions [B, T], halves paired."""
    half = x.shape[-1] // 2
    frequencies = torch.tensor([theta ** (-2 * i / x.shape[-1]) for i in range(half)])
    angles = (positions[..., None] * frequencies)[:, :, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)


def _plain_velocity(
    model: Pi05, images: Tensor, tokens: Tensor, image_mask: Tensor, token_mask: Tensor, x: Tensor, time: Tensor
) -> Tensor:
    """One pass over [images | text | actions] of every sample: x [B, H, A], time [B, H] -> velocity [B, H, A].

    Nothing is dropped, cached, precomputed or reduced; the block mask is a matrix.
    """
    config, (batch, horizon, _) = model.config, x.shape
    heads, size = config.prefix.heads, config.prefix.head_dim
    seen = torch.stack([model.projector(model.vision(sample)).flatten(0, 1) for sample in images])
    text = model.token_embedding(tokens) * math.sqrt(config.prefix.width)
    prefix, actions = torch.cat((seen, text), 1), model.action_in_proj(x)

    half = config.expert.width // 2
    periods = [4e-3 * (4.0 / 4e-3) ** (i / (half - 1)) for i in range(half)]
    angles = 2 * math.pi * time[..., None].double() / torch.tensor(periods, dtype=torch.float64)
    emb = torch.cat((angles.sin(), angles.cos()), -1).float()
    condition = F.silu(model.time_mlp_out(F.silu(model.time_mlp_in(emb))))

    image_real = image_mask.repeat_interleave(config.vision.tokens, dim=1)
    real = torch.cat((image_real, token_mask, torch.ones(batch, horizon, dtype=torch.bool)), 1)
    positions = real.long().cumsum(1) - 1
    total, length = real.shape[1], prefix.shape[1]
    block = torch.ones(total, total, dtype=torch.bool)
    block[:length, length:] = False
    allowed = block[None] & real[:, None, :]
    bias = torch.where(allowed, 0.0, -2.3819763e38)[:, None]

    layers: Any = zip(model.prefix_layers, model.expert.layers, strict=True)
    for ours, theirs in layers:
        scale1, shift1, gate1 = theirs.attention_norm.dense(condition).chunk(3, -1)
        scale2, shift2, gate2 = theirs.mlp_norm.dense(condition).chunk(3, -1)
        p = _rms(prefix) * (1 + ours.attention_norm.weight)
        a = _rms(actions) * (1 + scale1) + shift1
        parts = []
        for name in ("q_proj", "k_proj", "v_proj"):
            pair = (getattr(ours.attention, name)(p), getattr(theirs.attention, name)(a))
            parts.append(torch.cat(pair, 1).unflatten(-1, (-1, size)))
        q, k = (_turn(part, positions, config.rope_theta) for part in parts[:2])
        k, v = (part.repeat_interleave(heads // part.shape[2], dim=2) for part in (k, parts[2]))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(size) + bias
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        prefix = prefix + ours.attention.o_proj(mixed[:, :length])
        actions = actions + gate1 * theirs.attention.o_proj(mixed[:, length:])
        prefix = prefix + _geglu(ours.mlp, _rms(prefix) * (1 + ours.mlp_norm.weight))
        actions = actions + gate2 * _geglu(theirs.mlp, _rms(actions) * (1 + scale2) + shift2)
    scale, shift, _ = model.expert.norm.dense(condition).chunk(3, -1)
    return model.action_out_proj(_rms(actions) * (1 + scale) + shift)


def _geglu(mlp: Any, x: Tensor) -> Tensor:
    return mlp.down_proj(F.gelu(mlp.gate_proj(x), approximate="tanh") * mlp.up_proj(x))


@pytest.fixture
def plain_velocity() -> Callable[..., Tensor]:
    return _plain_velocity
