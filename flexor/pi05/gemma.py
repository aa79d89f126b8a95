"""Gemma as Pi0.5 uses it: the attention projections and GeGLU that prefix and expert share, and the prefix's layer.

Gemma Team, arXiv 2403.08295. No biases; RMSNorm multiplies by (1 + weight).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexor.pi05.attention import attend, group_queries, rotate, ungroup_queries
from flexor.pi05.config import GemmaConfig

EPSILON = 1e-6


def rms_normalise(x: Tensor) -> Tensor:
    """x / rms(x) over the last axis, in float32 whatever x is."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPSILON)


class RmsNorm(nn.Module):
    """Root-mean-square norm with Gemma's (1 + weight)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape, in x's dtype."""
        return (rms_normalise(x) * (1.0 + self.weight.float())).to(x.dtype)


class GemmaAttention(nn.Module):
    """The four projections of an attention; who attends to whom is decided by the caller."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=False)

    def queries(self, x: Tensor, rope: Tensor) -> Tensor:
        """[..., T, width] -> rotated and scaled query rows [..., kv_heads, T * group, head_dim]."""
        heads = self.q_proj(x).unflatten(-1, (self.heads, self.head_dim))
        return group_queries(rotate(heads, rope * self.head_dim**-0.5), self.kv_heads)

    def keys_values(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        """[..., T, width] -> rotated keys and values, [..., kv_heads, T, head_dim] each."""
        keys = self.k_proj(x).unflatten(-1, (self.kv_heads, self.head_dim))
        values = self.v_proj(x).unflatten(-1, (self.kv_heads, self.head_dim))
        return rotate(keys, rope).transpose(-3, -2).to(values.dtype), values.transpose(-3, -2)


class GemmaMlp(nn.Module):
    """GeGLU with the tanh form of GELU."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_dim, bias=False)
        self.down_proj = nn.Linear(config.mlp_dim, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same shape."""
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class GemmaLayer(nn.Module):
    """One prefix block: every real token sees every real token."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.attention_norm = RmsNorm(config.width)
        self.attention = GemmaAttention(config)
        self.mlp_norm = RmsNorm(config.width)
        self.mlp = GemmaMlp(config)

    def keys_values(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        """What the expert reads of this layer, for tokens [B, N, width]: keys and values [B, kv_heads, N, head_dim]."""
        return self.attention.keys_values(self.attention_norm(x), rope)

    def forward(self, x: Tensor, rope: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, N, width] -> (tokens, keys, values); `bias` as from `attention.mask_bias`."""
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_values(normed, rope)
        rows = self.attention.queries(normed, rope).to(keys.dtype)
        x = x + self.attention.o_proj(ungroup_queries(attend(rows, keys, values, bias), x.shape[-2]))
        return x + self.mlp(self.mlp_norm(x)), keys, values
