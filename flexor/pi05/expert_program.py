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
from flexor.pi05.expert import flow_times
from flexor.pi05.expert_weights import ExpertWeights
from flexor.pi05.fp8 import take_scales
from flexor.pi05.gemma import EPSILON
from flexor.pi05.merged_weights import MergedWeights, own_weights
from flexor.pi05.model import Pi05


def turns(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """Rotary positions as complex numbers of length 1, complex64 [..., head_dim / 2]."""
    cos, sin = rotary(positions, head_dim, theta)
    return torch.complex(cos, sin)


def turn(heads: Tensor, by: Tensor) -> Tensor:
    """Rotate paired channels: float32 [..., head_dim] by complex64 broadcast to [..., head_dim / 2]."""
    return torch.view_as_real(torch.view_as_complex(heads.unflatten(-1, (-1, 2))) * by).flatten(-2)


class ExpertProgram:
    """Euler sampling of N chunks on one prefix.

    Args:
        model: on the device where sampling runs.
        steps: Euler steps, at least 1.
        precision: of the layers' products.
    """

    def __init__(self, model: Pi05, steps: int, precision: str = "fp32") -> None:
        config = model.config.expert
        self.heads, self.head_dim, self.width = config.heads, config.head_dim, config.width
        self.steps, self.precision, self._config = steps, precision, model.config
        device = model.action_in_proj.weight.device
        self._joined = device.type != "cpu"
        base = ExpertWeights(model.config, own_weights(model).__getitem__, precision, self._joined)
        self._slots = {0: base}
        self.layers = base.layers  # e4m3 products are known by this place
        times = flow_times(steps).to(device)
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

    def weights(self, slot: int) -> ExpertWeights:
        """What slot 0..SLOTS - 1 computes with now."""
        return self._slots.get(slot, self._slots[0])

    def put(self, slot: int, weights: ExpertWeights | None) -> None:
        """Compute with these weights in a slot of 1..SLOTS - 1; None gives it the model's own back.

        From any thread: what is computed meanwhile goes on with the old weights to its end.
        """
        self._slots[slot] = self._slots[0] if weights is None else weights

    def merge(self, merged: MergedWeights) -> ExpertWeights:
        """Weights of this model with an adapter, new tensors.

        Raises:
            ValueError: numbers that are not finite.
        """
        weights = ExpertWeights(self._config, merged, self.precision, self._joined)
        take_scales(weights, self._slots[0])
        return weights

    def denoise(
        self,
        keys: list[Tensor],
        values: list[Tensor],
        rope: Tensor,
        noise: Tensor,
        action_prefix: Tensor | None,
        slot: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """See `Pi05.denoise`; keys and values per layer [N, head_dim], keys rotated in paired channels.

        `rope` is complex64 [H, head_dim / 2], from `turns`, for the positions after the prefix.
        """
        weights = self.weights(slot)
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
            velocity = self._velocity(weights, x, step, modulation, cache, rope, bias)
            velocities.append(velocity)
            x.sub_(velocity, alpha=1.0 / self.steps)
        if action_prefix is not None:
            chunks[:, :clamped] = action_prefix
        return chunks, torch.stack(velocities).view(self.steps, *noise.shape)

    def _velocity(
        self,
        weights: ExpertWeights,
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
        x.copy_(F.linear(noised, *weights.action_in))
        torch.neg(x, out=negative)
        for index, layer in enumerate(weights.layers):
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
            x.addcmul_(gate, layer.down(layer.hidden(normed)))
            torch.neg(x, out=negative)
        return F.linear(self._norm(both, step, -1, modulation)[0], *weights.action_out)

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
