"""Attention as Pi0.5 uses it: rotary positions and grouped queries that share few key heads.

Written with plain batched products and a float32 softmax: on CPU the backward of PyTorch's fused attention costs more
than all the rest of a small model. All query heads of one key head are rows of one matrix, so a multi-query layer is
one product for each sample, without copies.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """Cosines and sines of rotary positions, float32 [2, ..., head_dim / 2] for integer positions [...]."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions.to(torch.float32).unsqueeze(-1) * (1.0 / theta**exponents)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(heads: Tensor, rope: Tensor) -> Tensor:
    """Turn heads [..., n, head_dim] by `rope` [2, ..., head_dim / 2]; first and second halves are the pairs."""
    cos, sin = rope.unsqueeze(-2)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def group_queries(queries: Tensor, kv_heads: int) -> Tensor:
    """[..., T, heads, D] -> [..., kv_heads, T * heads / kv_heads, D], rows in order (token, head of the group)."""
    *batch, tokens, heads, dim = queries.shape
    group = heads // kv_heads
    split = queries.reshape(*batch, tokens, kv_heads, group, dim)
    return split.transpose(-4, -3).reshape(*batch, kv_heads, tokens * group, dim)


def ungroup_queries(rows: Tensor, tokens: int) -> Tensor:
    """Undo `group_queries` and join the heads: [..., kv_heads, tokens * group, D] -> [..., tokens, heads * D]."""
    *batch, kv_heads, count, dim = rows.shape
    group = count // tokens
    split = rows.reshape(*batch, kv_heads, tokens, group, dim).transpose(-4, -3)
    return split.reshape(*batch, tokens, kv_heads * group * dim)


def attend(rows: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Softmax attention of query rows [..., R, D] over keys and values [..., N, D]; `bias` broadcasts to [..., R, N].

    The queries are expected to be scaled already.
    """
    scores = rows @ keys.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    # Cast first: softmax(dtype=float32) of bfloat16 takes three times as long on a CPU.
    return scores.float().softmax(dim=-1).to(values.dtype) @ values


def mask_bias(mask: Tensor | None) -> Tensor | None:
    """What is added to scores, [B, 1, 1, N]: 0 where `mask` bool [B, N] holds, openpi's -2.38e38 elsewhere."""
    if mask is None:
        return None
    blocked = torch.full((), -2.3819763e38, device=mask.device)
    return torch.where(mask, torch.zeros((), device=mask.device), blocked)[:, None, None, :]


def attend_prefix(
    rows: Tensor, keys: Tensor, values: Tensor, prefix_keys: Tensor, prefix_values: Tensor, bias: Tensor | None
) -> Tensor:
    """Attention of K draws over one shared prefix and each over its own tokens: the block mask, without its zeros.

    Args:
        rows: scaled query rows [B, K, kv, R, D].
        keys, values: of the draws' own tokens, [B, K, kv, H, D].
        prefix_keys, prefix_values: [B, kv, N, D].
        bias: [B, 1, 1, N] from `mask_bias`, or None.

    Returns:
        [B, K, kv, R, D].
    """
    batch, draws, kv_heads, count, dim = rows.shape
    length = prefix_keys.shape[-2]
    # With one key head every fold and unfold below is a view.
    folded = rows.transpose(1, 2).reshape(batch, kv_heads, draws * count, dim)
    seen = folded @ prefix_keys.transpose(-1, -2)
    if bias is not None:
        seen = seen + bias.to(seen.dtype)
    seen = seen.reshape(batch, kv_heads, draws, count, length).transpose(1, 2)
    own = rows @ keys.transpose(-1, -2)
    weights = torch.cat((seen, own), dim=-1).float().softmax(dim=-1).to(values.dtype)
    seen, own = weights.split((length, keys.shape[-2]), dim=-1)
    folded = seen.transpose(1, 2).reshape(batch, kv_heads, draws * count, length) @ prefix_values
    return folded.reshape(batch, kv_heads, draws, count, dim).transpose(1, 2) + own @ values
