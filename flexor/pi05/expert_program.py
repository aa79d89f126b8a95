"""The action expert prepared for sampling: fused weights, tables for every step, few operations.

What tokens carry is float32; the products may be narrower.

A chunk of a small model is some thousand tiny operations, so their number is its cost. Against `Pi05.denoise`:
q, k and v are one product; the rotation is one complex product, since the channels of q and k were reordered so that
pairs are neighbours (no score changes when both are reordered alike); norm and modulation are one LayerNorm over
[x, -x], whose mean is 0 and whose variance is the mean square of x.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.attention import rotary
from flexor.pi05.expert import ExpertLayer, flow_times
from flexor.pi05.gemma import EPSILON, GemmaAttention
from flexor.pi05.model import Pi05
from flexor.pi05.products import Product, make_product


def pair_channels(weight: Tensor, head_dim: int) -> Tensor:
    """Reorder the rows of a q or k projection, in each head, from (first halves, second halves) to pairs."""
    heads = weight.unflatten(0, (-1, 2, head_dim // 2))
    return heads.transpose(1, 2).reshape(weight.shape)


def fuse_qkv(attention: GemmaAttention) -> Tensor:
    """Weights of q (already scaled), k and v stacked, channels of q and k paired: [(heads + 2) * head_dim, width]."""
    size = attention.head_dim
    q = pair_channels(attention.q_proj.weight.float(), size) * size**-0.5
    k, v = pair_channels(attention.k_proj.weight.float(), size), attention.v_proj.weight.float()
    return torch.cat((q, k, v)).contiguous()


def turns(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """Rotary positions as complex numbers of length 1, complex64 [..., head_dim / 2]."""
    cos, sin = rotary(positions, head_dim, theta)
    return torch.complex(cos, sin)


def turn(heads: Tensor, by: Tensor) -> Tensor:
    """Rotate paired channels: float32 [..., head_dim] by complex64 broadcast to [..., head_dim / 2]."""
    return torch.view_as_real(torch.view_as_complex(heads.unflatten(-1, (-1, 2))) * by).flatten(-2)


class _Layer:
    """The products of one expert layer."""

    def __init__(self, layer: ExpertLayer, precision: str) -> None:
        def product(weight: Tensor) -> Product:
            return make_product(weight, None, precision, torch.float32)

        self.qkv, self.o = product(fuse_qkv(layer.attention)), product(layer.attention.o_proj.weight)
        self.gate, self.up = product(layer.mlp.gate_proj.weight), product(layer.mlp.up_proj.weight)
        self.down = product(layer.mlp.down_proj.weight)


class ExpertProgram:
    """Euler sampling of N chunks on one prefix.

    Args:
        model: on the device where sampling runs; its weights are copied.
        steps: Euler steps, at least 1.
        precision: of the layers' products.
    """

    def __init__(self, model: Pi05, steps: int, precision: str = "fp32") -> None:
        config = model.config.expert
        self.heads, self.head_dim, self.width = config.heads, config.head_dim, config.width
        self.steps = steps
        self.layers = [_Layer(layer, precision) for layer in model.expert.layers]  # type: ignore[arg-type]
        self.action_in = (model.action_in_proj.weight.float(), model.action_in_proj.bias.float())
        self.action_out = (model.action_out_proj.weight.float(), model.action_out_proj.bias.float())
        times = flow_times(steps).to(model.action_in_proj.weight.device)
        # [steps + 1, norms, 3, width]: the last row is flow time 0, that of clamped actions.
        self.table = model.modulations(times).transpose(0, 1).contiguous()
        self.table[:, :, 0] += 1.0
        # Per step and norm: scale and shift as LayerNorm over [x, -x] takes them (of its result only the first half is
        # read), and the gate. Cut here once: ninety cuts a chunk cost as much as a layer.
        doubled = torch.cat((self.table, self.table), dim=-1)
        self.single = [
            [(wide[0], wide[1], row[2]) for wide, row in zip(doubled[step], self.table[step], strict=True)]
            for step in range(steps)
        ]

    def denoise(
        self, keys: list[Tensor], values: list[Tensor], rope: Tensor, noise: Tensor, action_prefix: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `Pi05.denoise`; keys and values per layer [N, head_dim], keys rotated in paired channels.

        `rope` is complex64 [H, head_dim / 2], from `turns`, for the positions after the prefix.
        """
        count, horizon, _ = noise.shape
        clamped = 0 if action_prefix is None else len(action_prefix)
        start, tokens = keys[0].shape[0], count * horizon
        pool = noise.new_empty(len(keys), 2, start + tokens, self.head_dim)
        cache = []
        for index, (key, value) in enumerate(zip(keys, values, strict=True)):
            pool[index, 0, :start], pool[index, 1, :start] = key, value
            own_keys = torch.view_as_complex(pool[index, 0, start:].view(tokens, 1, -1, 2))
            cache.append((pool[index, 0].t(), pool[index, 1], own_keys, pool[index, 1, start:]))
        rope = rope.repeat(count, 1)[:, None]
        bias = self._block_bias(start, count, horizon, noise)
        held = (torch.arange(horizon, device=noise.device) < clamped).repeat(count)
        x, velocities = noise.flatten(0, 1).clone(), []
        chunks = x.view(noise.shape)
        for step in range(self.steps):
            if action_prefix is not None:
                chunks[:, :clamped] = action_prefix
                modulation = self.table[torch.where(held, self.steps, step)].unbind(1)
            else:
                modulation = None
            velocity = self._velocity(x, step, modulation, cache, rope, bias)
            velocities.append(velocity)
            x.sub_(velocity, alpha=1.0 / self.steps)
        if action_prefix is not None:
            chunks[:, :clamped] = action_prefix
        return chunks, torch.stack(velocities).view(self.steps, *noise.shape)

    def _velocity(
        self,
        noised: Tensor,
        step: int,
        modulation: tuple[Tensor, ...] | None,
        cache: list[tuple[Tensor, Tensor, Tensor, Tensor]],
        rope: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """One evaluation for tokens [N * H, A]; `modulation` per norm [N * H, 3, width], None for one time for all."""
        tokens, width, queries = noised.shape[0], self.width, self.heads * self.head_dim
        both = noised.new_empty(tokens, 2 * width)
        x, negative = both[:, :width], both[:, width:]
        x.copy_(F.linear(noised, *self.action_in))
        torch.neg(x, out=negative)
        for index, layer in enumerate(self.layers):
            normed, gate = self._norm(both, step, 2 * index, modulation)
            mixed = layer.qkv(normed)
            turned = torch.view_as_complex(mixed[:, : queries + self.head_dim].unflatten(1, (self.heads + 1, -1, 2)))
            keys, values, own_keys, own_values = cache[index]
            torch.mul(turned[:, self.heads :], rope, out=own_keys)
            own_values.copy_(mixed[:, queries + self.head_dim :])
            rows = torch.view_as_real(turned[:, : self.heads] * rope).view(-1, self.head_dim)
            scores = torch.mm(rows, keys) if bias is None else torch.addmm(bias, rows, keys)
            mixed = torch.mm(scores.softmax(dim=-1), values).view(tokens, queries)
            x.addcmul_(gate, layer.o(mixed))
            torch.neg(x, out=negative)
            normed, gate = self._norm(both, step, 2 * index + 1, modulation)
            hidden = F.gelu(layer.gate(normed), approximate="tanh").mul_(layer.up(normed))
            x.addcmul_(gate, layer.down(hidden))
            torch.neg(x, out=negative)
        return F.linear(self._norm(both, step, -1, modulation)[0], *self.action_out)

    def _norm(self, both: Tensor, step: int, norm: int, modulation: tuple[Tensor, ...] | None) -> tuple[Tensor, Tensor]:
        """Modulated norm of the first half of [x, -x], and the gate."""
        shape, width = (2 * self.width,), self.width
        if modulation is None:
            scale, shift, gate = self.single[step][norm]
            return F.layer_norm(both, shape, scale, shift, EPSILON)[:, :width], gate
        scale, shift, gate = modulation[norm].unbind(1)
        return torch.addcmul(shift, F.layer_norm(both, shape, None, None, EPSILON)[:, :width], scale), gate

    def _block_bias(self, start: int, count: int, horizon: int, like: Tensor) -> Tensor | None:
        """Keeps the tokens of one chunk from those of another: [N * H * heads, prefix + N * H], None for one chunk."""
        if count == 1:
            return None
        chunk = torch.arange(count, device=like.device).repeat_interleave(horizon)
        bias = like.new_zeros(len(chunk) * self.heads, start + len(chunk))
        bias[:, start:].masked_fill_(chunk.repeat_interleave(self.heads)[:, None] != chunk, -torch.inf)
        return bias
