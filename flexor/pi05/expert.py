"""The action expert: Gemma layers whose norms are modulated by flow time (adaRMS) and whose residuals are gated.

Peebles & Xie, arXiv 2212.09748 (adaptive norms with gates); openpi's Pi0.5 conditions RMSNorm in this way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flexor.pi05.attention import attend_prefix, ungroup_queries
from flexor.pi05.config import GemmaConfig
from flexor.pi05.gemma import GemmaAttention, GemmaMlp, rms_normalise
from flexor.pi05.precision import follow
from flexor.pi05.prefix import Prefix

_SHORTEST_PERIOD, _LONGEST_PERIOD = 4e-3, 4.0


def embed_time(times: Tensor, width: int) -> Tensor:
    """Sines and cosines of flow times [n], float32 [n, width], periods from 0.004 to 4 in equal ratios.

    Angles are taken in float64, as in openpi: the fastest reaches 1,570 rad.
    """
    fractions = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64, device=times.device)
    periods = _SHORTEST_PERIOD * (_LONGEST_PERIOD / _SHORTEST_PERIOD) ** fractions
    angles = times.to(torch.float64).unsqueeze(-1) * (2.0 * math.pi / periods)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).to(torch.float32)


def flow_times(steps: int) -> Tensor:
    """Flow times of Euler steps, then 0, that of clamped actions: float32 [steps + 1] on the CPU.

    Every step is added in float32, as in openpi. Rounded otherwise, the third is 6e-8 off, the fastest angle of
    `embed_time` 1e-4, and velocities 1e-5: more than all other rounding together.
    """
    times, step = [torch.ones(())], torch.tensor(-1.0 / steps)
    while len(times) < steps:
        times.append(times[-1] + step)
    return torch.stack((*times, torch.zeros(())))


class AdaRms(nn.Module):
    """RMSNorm without a weight of its own: scale, shift and gate come from the conditioning of flow time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)

    def modulation(self, condition: Tensor) -> Tensor:
        """Conditioning [n, width] -> float32 [n, 3, width]: scale, shift, gate."""
        return self.dense(condition).float().unflatten(-1, (3, -1))

    @staticmethod
    def modulate(x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """Norm of x [..., width] under float32 `modulation` [..., 3, width], in x's dtype, and the gate."""
        scale, shift, gate = modulation.unbind(-2)
        return (rms_normalise(x) * (1.0 + scale) + shift).to(x.dtype), gate


class ExpertLayer(nn.Module):
    """One expert block: actions of a draw see the whole prefix and the actions of the same draw."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.attention_norm = AdaRms(config.width)
        self.attention = GemmaAttention(config)
        self.mlp_norm = AdaRms(config.width)
        self.mlp = GemmaMlp(config)

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        modulation: tuple[Tensor, Tensor],
        prefix: tuple[Tensor, Tensor],
        bias: Tensor | None,
    ) -> Tensor:
        """Action tokens [B, K, H, width] -> the same shape.

        Args:
            x: K draws of H tokens for each of B prefixes.
            rope: [2, B, 1, H, head_dim / 2], from `attention.rotary`.
            modulation: [..., 3, width] of the attention's and the MLP's norm, broadcast over the tokens.
            prefix: keys and values of this layer, [B, kv_heads, N, head_dim] each.
            bias: masked prefix tokens, from `attention.mask_bias`.
        """
        normed, gate = AdaRms.modulate(x, modulation[0])
        keys, values = self.attention.keys_values(normed, rope)
        rows = self.attention.queries(normed, rope).to(keys.dtype)
        mixed = attend_prefix(rows, keys, values, prefix[0], prefix[1], bias)
        x = x + (gate * self.attention.o_proj(ungroup_queries(mixed, x.shape[-2]))).to(x.dtype)
        normed, gate = AdaRms.modulate(x, modulation[1])
        return x + (gate * self.mlp(normed)).to(x.dtype)


class Expert(nn.Module):
    """The whole stack; projections of actions and time belong to the model around it."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ExpertLayer(config) for _ in range(config.depth))
        self.norm = AdaRms(config.width)

    def modulations(self, condition: Tensor) -> Tensor:
        """Conditioning [n, width] -> float32 [2 * depth + 1, n, 3, width]: two norms a layer, then the last norm."""
        norms = [norm for layer in self.layers for norm in (layer.attention_norm, layer.mlp_norm)]  # type: ignore[union-attr]
        return torch.stack([norm.modulation(condition) for norm in (*norms, self.norm)])  # type: ignore[operator]

    def forward(self, x: Tensor, rope: Tensor, modulation: Tensor, prefix: Prefix, bias: Tensor | None) -> Tensor:
        """Action tokens [B, K, H, width] -> normed output; `modulation` is [2 * depth + 1, ..., 3, width]."""
        # One unbind, not a slice for each norm: the backward of a slice fills the whole table with zeros.
        *pairs, last = modulation.unbind(0)
        x = follow(x, self.layers[0].attention.q_proj.weight)  # type: ignore[union-attr]
        for index, layer in enumerate(self.layers):
            pair = (pairs[2 * index], pairs[2 * index + 1])
            x = layer(x, rope, pair, (prefix.keys[index], prefix.values[index]), bias)
        return AdaRms.modulate(x, last)[0]
