"""TorchSampler: the flow of one model with everything worked out that no observation changes.

It computes what `Pi05.denoise` computes, in fewer and larger operations: at ten actions a chunk a small model waits
for operations, not for arithmetic.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.attention import rotary
from flexor.pi05.expert import ExpertLayer
from flexor.pi05.gemma import EPSILON
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix

Modulation = tuple[Tensor, ...]  # 1 + scale, shift, gate, [width] or [H, width] each


class TorchSampler:
    """Euler's method on one model, a fixed number of steps.

    Args:
        model: on its device, in its precision; its tensors are copied where layouts differ, else shared.
        steps: Euler steps, 1 or more.
    """

    @torch.inference_mode()
    def __init__(self, model: Pi05, steps: int) -> None:
        config = model.config.expert
        device = model.action_in_proj.weight.device
        self._model, self._steps = model, steps
        self._dtype = model.action_in_proj.weight.dtype
        self._heads, self._kv_heads, self._head_dim = config.heads, config.kv_heads, config.head_dim
        # Rotary pairs are the two halves of a head; side by side they are complex numbers and turn in one product.
        # Queries and keys (the prefix's too) are reordered alike, so their products stay the same.
        self._pairs = torch.arange(config.head_dim, device=device).reshape(2, -1).t().flatten()
        self._layers = [_FusedLayer(layer, self._pairs) for layer in model.expert.layers]  # type: ignore[arg-type]
        times = 1.0 - torch.arange(steps + 1, dtype=torch.float32, device=device) / steps
        table = model.modulations(times).float()
        table[:, :, 0] += 1.0
        self._table = table  # [2 * depth + 1, steps + 1, 3, width]: 1 + scale, shift, gate; the last step is t = 0
        self._free = [_rows(table[:, step]) for step in range(steps)]
        self._epsilon = torch.tensor(EPSILON, device=device)

    @torch.inference_mode()
    def sample(self, prefix: Prefix, noise: Tensor, action_prefix: Tensor | None) -> tuple[Tensor, Tensor]:
        """Turn noise float32 [N, H, A] into actions [N, H, A] and velocities [steps, N, H, A], as Pi05.denoise does.

        Args:
            prefix: of one sample without masked tokens.
            noise: N chunks share the prefix.
            action_prefix: float32 [d, A] that clamps the first d actions, d < H; or None.

        Raises:
            ValueError: a prefix of several samples or with masked tokens.
        """
        if prefix.batch != 1 or prefix.mask is not None:
            raise ValueError(f"the sampler takes a prefix of one sample without mask, this one holds {prefix.batch}")
        count, horizon, _ = noise.shape
        clamped = 0 if action_prefix is None else len(action_prefix)
        rope = self._rope(prefix.offset + torch.arange(horizon, device=noise.device))
        layers = zip(prefix.keys, prefix.values, strict=True)
        cache = [self._extend(keys, values, count, horizon) for keys, values in layers]
        held = torch.arange(horizon, device=noise.device) < clamped
        velocities = torch.empty((self._steps, *noise.shape), device=noise.device)
        x = noise.clone()
        for step in range(self._steps):
            modulation = self._free[step]
            if action_prefix is not None:
                x[:, :clamped] = action_prefix
                modulation = _rows(self._table[:, torch.where(held, self._steps, step)])
            velocity = self._velocity(x, cache, rope, modulation)
            velocities[step] = velocity
            x.add_(velocity, alpha=-1.0 / self._steps)
        if action_prefix is not None:
            x[:, :clamped] = action_prefix
        return x, velocities

    def _velocity(self, x: Tensor, cache: list[Tensor], rope: Tensor, modulation: list[Modulation]) -> Tensor:
        """[N, H, A] -> float32 of the same shape."""
        x = self._model.action_in_proj(x.to(self._dtype)).float()
        for index, layer in enumerate(self._layers):
            scale, shift, gate = modulation[2 * index]
            mixed = self._attend(F.linear(self._modulate(x, scale, shift), layer.qkv), cache[index], rope)
            x = torch.addcmul(x, gate, F.linear(mixed, layer.out))
            scale, shift, gate = modulation[2 * index + 1]
            gated, up = F.linear(self._modulate(x, scale, shift), layer.gate_up).chunk(2, dim=-1)
            x = torch.addcmul(x, gate, F.linear(F.gelu(gated, approximate="tanh").mul_(up), layer.down))
        scale, shift, _ = modulation[-1]
        return self._model.action_out_proj(self._modulate(x, scale, shift)).float()

    def _modulate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """adaRMS of float32 [N, H, width]; one norm is several times as quick on a CPU as a mean of squares."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        factor = torch.addcmul(self._epsilon, length, length, value=1.0 / x.shape[-1]).rsqrt_()
        return torch.addcmul(shift, x * factor, scale).to(self._dtype)

    def _attend(self, qkv: Tensor, cache: Tensor, rope: Tensor) -> Tensor:
        """Joint attention of [N, H, (heads + 2 kv_heads) * D] over prefix and chunk: [N, H, heads * D]."""
        count, horizon, width = qkv.shape
        kv_heads, dim = self._kv_heads, self._head_dim
        pairs = qkv.float().view(count, horizon, width // dim, dim // 2, 2)
        heads = torch.view_as_real(torch.view_as_complex(pairs) * rope).view(count, horizon, -1, dim).to(self._dtype)
        own = heads[:, :, self._heads :].view(count, horizon, 2, kv_heads, dim)
        cache[..., -horizon:, :] = own.permute(2, 0, 3, 1, 4)
        keys, values = cache.flatten(1, 2)
        rows = heads[:, :, : self._heads].view(count, horizon, kv_heads, -1, dim).transpose(1, 2)
        scores = torch.bmm(rows.reshape(count * kv_heads, -1, dim), keys.transpose(1, 2))
        mixed = torch.bmm(scores.softmax(dim=-1, dtype=torch.float32).to(self._dtype), values)
        mixed = mixed.view(count, kv_heads, horizon, -1, dim).transpose(1, 2)
        return mixed.reshape(count, horizon, -1)

    def _rope(self, positions: Tensor) -> Tensor:
        """Turns of every head at positions [H], complex [H, heads + 2 kv_heads, D / 2]; values turn by nothing."""
        turns = torch.complex(*rotary(positions, self._head_dim, self._model.config.rope_theta))[:, None]
        turning = turns.expand(-1, self._heads + self._kv_heads, -1)
        return torch.cat((turning, torch.ones_like(turns).expand(-1, self._kv_heads, -1)), dim=1)

    def _extend(self, keys: Tensor, values: Tensor, count: int, horizon: int) -> Tensor:
        """A layer's prefix [1, kv_heads, n, D] for N chunks, with room for their own: [2, N, kv_heads, n + H, D]."""
        _, kv_heads, tokens, dim = keys.shape
        room = keys.new_empty((2, count, kv_heads, tokens + horizon, dim))
        room[0, :, :, :tokens] = keys[..., self._pairs]
        room[1, :, :, :tokens] = values
        return room


def _rows(table: Tensor) -> list[Modulation]:
    """[2 * depth + 1, ..., 3, width] as (scale, shift, gate) of each norm; unpacked once, not in every layer."""
    return [norm.unbind(-2) for norm in table.unbind(0)]


class _FusedLayer:
    """One expert layer's weights: q, k and v in one matrix, gate and up in another, the query scale folded in."""

    def __init__(self, layer: ExpertLayer, pairs: Tensor) -> None:
        attention, mlp = layer.attention, layer.mlp
        scale = 1.0 / math.sqrt(attention.head_dim)
        queries = self._reorder(attention.q_proj.weight * scale, attention.heads, pairs)
        keys = self._reorder(attention.k_proj.weight, attention.kv_heads, pairs)
        self.qkv = torch.cat((queries, keys, attention.v_proj.weight))
        self.out = attention.o_proj.weight
        self.gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        self.down = mlp.down_proj.weight

    @staticmethod
    def _reorder(weight: Tensor, heads: int, pairs: Tensor) -> Tensor:
        return weight.unflatten(0, (heads, -1))[:, pairs].flatten(0, 1)
