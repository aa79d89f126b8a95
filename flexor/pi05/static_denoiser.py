"""StaticDenoiser: Euler sampling of N chunks on buffers that never move.

The same numbers as `ExpertProgram.denoise`, written for a GPU: few kernels, what tokens carry into products is as
narrow as the products are, and neither the length of the prefix nor that of the clamped one is known to the host.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.expert_weights import ExpertWeights
from flexor.pi05.gemma import EPSILON
from flexor.pi05.program import Program
from flexor.pi05.static_encoder import StaticEncoder


class StaticDenoiser:
    """Reads the prefix where the encoder left it.

    Args:
        program: prepared.
        encoder: whose prefix.
        samples: N.
        compiled: an evaluation of the expert is compiled (torch.compile); elsewhere PyTorch's own kernels run.

    Attributes:
        noise: float32 [N, H, A].
        committed: float32 [H, A], actions that the chunks begin with.
        clamped: int64 [], how many of them.
        actions: float32 [N, H, A].
        velocities: float32 [steps, N, H, A].
    """

    def __init__(self, program: Program, encoder: StaticEncoder, samples: int, compiled: bool = False) -> None:
        config, expert = program.config, program.expert
        self._encoder, self._steps, self._heads = encoder, expert.steps, expert.heads
        self._rope = program.turns(1)
        device, stream = encoder.keys.device, encoder.keys.dtype
        horizon, start = config.horizon, encoder.capacity
        self.noise = torch.zeros(samples, horizon, config.action_dim, device=device)
        self.committed = torch.zeros(horizon, config.action_dim, device=device)
        self.clamped = torch.zeros((), dtype=torch.int64, device=device)
        self.actions = torch.zeros_like(self.noise)
        self.velocities = torch.zeros(expert.steps, *self.noise.shape, device=device)
        # [norms * 3, steps + 1, width]: of a norm the scale, shift and gate of all tokens lie together when taken out.
        self._table = expert.table.flatten(1, 2).transpose(0, 1).contiguous()
        tokens = samples * horizon
        shape = (config.expert.depth, start + tokens, expert.head_dim)
        self._keys, self._values = (torch.zeros(shape, dtype=stream, device=device) for _ in range(2))
        # Keeps the tokens of one chunk from those of another: [N * H * heads, prefix + N * H].
        chunk = torch.arange(samples, device=device).repeat_interleave(horizon)
        self._apart = torch.zeros(tokens * expert.heads, start + tokens, dtype=stream, device=device)
        other = chunk.repeat_interleave(expert.heads)[:, None] != chunk
        self._apart[:, start:].masked_fill_(other, -torch.inf)
        self._turn = _turn_by_parts if compiled else _turn
        self._evaluate = torch.compile(self._velocity, dynamic=False) if compiled else self._velocity

    def put(self, noise: Tensor, action_prefix: Tensor | None) -> None:
        """Copy a question in, of shapes that are known to fit."""
        self.noise.copy_(noise)
        clamped = 0 if action_prefix is None else len(action_prefix)
        if action_prefix is not None:
            self.committed[:clamped].copy_(action_prefix)
        self.clamped.fill_(clamped)

    def run(self, weights: ExpertWeights) -> None:
        """Sample."""
        samples, horizon, _ = self.noise.shape
        encoder, start = self._encoder, self._encoder.capacity
        self._keys[:, :start], self._values[:, :start] = encoder.keys, encoder.values
        columns = torch.arange(self._apart.shape[1], device=self._apart.device)
        bias = self._apart.masked_fill((columns >= encoder.count) & (columns < start), -torch.inf)
        order = torch.arange(horizon, device=bias.device)
        rope = self._rope.index_select(0, encoder.count + order).repeat(samples, 1)[:, None]
        rope = torch.view_as_real(rope)
        held = (order < self.clamped).repeat(samples)
        committed = self.committed.repeat(samples, 1)
        x = self.noise.flatten(0, 1)
        for step in range(self._steps):
            x = torch.where(held[:, None], committed, x)
            # Not torch.where of two numbers: it would copy them from the host, which no graph records.
            modulation = self._table.index_select(1, held * (self._steps - step) + step)
            velocity = self._evaluate(weights, x, modulation, rope, bias)
            self.velocities[step] = velocity.view(self.noise.shape)
            x = x - velocity / self._steps
        self.actions.copy_(torch.where(held[:, None], committed, x).view(self.noise.shape))

    def _velocity(
        self, weights: ExpertWeights, noised: Tensor, modulation: Tensor, rope: Tensor, bias: Tensor
    ) -> Tensor:
        """One evaluation for tokens [N * H, A]; `modulation` float32 [norms * 3, N * H, width]."""
        tokens, heads, start, stream = len(noised), self._heads, self._encoder.capacity, bias.dtype
        head_dim = self._keys.shape[-1]
        x = F.linear(noised, *weights.action_in)
        for index, layer in enumerate(weights.layers):
            keys, values = self._keys[index], self._values[index]
            normed, gate = self._norm(x, modulation, 2 * index)
            mixed = layer.qkv(normed)
            turned = self._turn(mixed[:, :-head_dim].float().unflatten(1, (heads + 1, -1, 2)), rope).flatten(2)
            keys[start:] = turned[:, heads]
            values[start:] = mixed[:, -head_dim:]
            rows = turned[:, :heads].to(stream).reshape(-1, head_dim)
            scores = torch.addmm(bias, rows, keys.t())
            seen = scores.softmax(dim=-1, dtype=torch.float32).to(stream)
            x = torch.addcmul(x, gate, layer.o((seen @ values).view(tokens, -1)).float())
            normed, gate = self._norm(x, modulation, 2 * index + 1)
            x = torch.addcmul(x, gate, layer.down(layer.hidden(normed)).float())
        normed, _ = self._norm(x, modulation, 2 * len(weights.layers))
        return F.linear(normed.float(), *weights.action_out)

    def _norm(self, x: Tensor, modulation: Tensor, norm: int) -> tuple[Tensor, Tensor]:
        """RMSNorm of x float32 under its modulation, as narrow as the products want it, and the gate."""
        scale, shift, gate = modulation[3 * norm : 3 * norm + 3].unbind(0)
        normed = torch.addcmul(shift, F.rms_norm(x, x.shape[-1:], None, EPSILON), scale)
        return normed.to(self._keys.dtype), gate


def _turn(pairs: Tensor, rope: Tensor) -> Tensor:
    """Rotate channels [n, heads, head_dim / 2, 2] by cosines and sines [n, 1, head_dim / 2, 2]: one kernel."""
    return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rope))


def _turn_by_parts(pairs: Tensor, rope: Tensor) -> Tensor:
    """The same for a compiler, which knows no complex numbers and joins these."""
    first, second = pairs.unbind(-1)
    cos, sin = rope.unbind(-1)
    return torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
