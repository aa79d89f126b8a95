"""ExpertGraph: `Pi05.denoise`, all Euler steps in one graph or one step of them, with an adapter's tensors as inputs.

Hoisted out of the steps: what flow time does (a table over the fixed times and the 0 of clamped actions, of which each
step reads once for all norms), angles, masks, and the keys and values of the conditioning token. Samples of one call
stand one after the other in the rows; a block mask keeps them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flexor.export.graphs.layers import (
    BLOCKED,
    Factors,
    Heads,
    Product,
    adapted,
    fused_gate_up,
    fused_qkv,
    geglu,
    normalise,
    turn_table,
)
from flexor.export.graphs.prefix_graph import check_key_heads
from flexor.pi05.expert import ExpertLayer, flow_times
from flexor.pi05.lora import tensor_names
from flexor.pi05.lora_targets import EXPERT_PAIRS, LAYER_PAIRS
from flexor.pi05.model import Pi05


@dataclass(frozen=True, slots=True)
class _Call:
    """What is the same in every step of a call: rows are N * H action tokens."""

    held: Tensor  # bool [rows]
    actions: Tensor  # [rows, A], the clamped ones, then anything
    angles: Tensor
    bias: Tensor  # [rows * heads, P + N + rows]
    caches: list[tuple[Tensor, Tensor]]
    factors: dict[str, list[Factors]]


class _Modulation(NamedTuple):
    """What flow time does at one norm: [rows, width] each; 1 is added to the scale."""

    scale: Tensor
    shift: Tensor
    gate: Tensor


class _AdaRms(nn.Module):
    """A norm under a modulation. Its ones are what runtimes know it by."""

    ones: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(width))

    def forward(self, x: Tensor, by: _Modulation) -> Tensor:
        """x [rows, width] -> the same shape."""
        return normalise(x) * self.ones * by.scale + by.shift


class _Layer(nn.Module):
    """One block of the expert."""

    def __init__(self, layer: ExpertLayer, width: int, heads: Heads) -> None:
        super().__init__()
        self.heads, self.mlp_dim = heads, layer.mlp.down_proj.in_features
        self.attention_norm, self.mlp_norm = _AdaRms(width), _AdaRms(width)
        self.qkv, self.o = Product(fused_qkv(layer.attention)), Product(layer.attention.o_proj.weight)
        self.gate_up, self.down = Product(fused_gate_up(layer.mlp)), Product(layer.mlp.down_proj.weight)

    def project(self, x: Tensor, by: _Modulation, angles: Tensor, factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens [rows, width]; see Heads."""
        return self.heads(adapted(self.qkv, self.attention_norm(x, by), factors), angles)

    def forward(self, x: Tensor, by: Sequence[_Modulation], call: _Call, index: int) -> Tensor:
        """Action tokens [rows, width] -> the same shape, under the modulations of the layer's two norms."""
        qkv, o, gate_up, down = (call.factors[pair][index] for pair in LAYER_PAIRS)
        queries, keys, values = self.project(x, by[0], call.angles, qkv)
        before = call.caches[index]
        keys, values = torch.cat((before[0], keys)), torch.cat((before[1], values))
        mixed = self.heads.attend(queries, keys, values, call.bias)
        x = x + adapted(self.o, mixed, o) * by[0].gate
        hidden = geglu(adapted(self.gate_up, self.mlp_norm(x, by[1]), gate_up), self.mlp_dim)
        return x + adapted(self.down, hidden, down) * by[1].gate


class ExpertGraph(nn.Module):
    """The expert program on one prefix.

    Args:
        model: its weights are copied or shared; it must not be changed any more.
        steps: Euler steps, at least 1.
        positions: P of the cache, as the prefix graph gives it.
        whole: whether one call makes all steps, or one of them.

    Raises:
        ValueError: a model of several key heads.
    """

    turns: Tensor
    modulations: Tensor

    def __init__(self, model: Pi05, steps: int, positions: int, whole: bool = True) -> None:
        super().__init__()
        config = model.config
        check_key_heads(config)
        self.steps, self.whole, self.positions = steps, whole, positions
        self.horizon, self.action_dim, self.depth = config.horizon, config.action_dim, config.expert.depth
        with torch.no_grad():
            # [norms, steps + 1, 3, width] -> [steps + 1, norms * 3 * width]: the last time is 0.
            modulations = model.modulations(flow_times(steps)).float().transpose(0, 1)
            modulations = torch.stack((1.0 + modulations[:, :, 0], modulations[:, :, 1], modulations[:, :, 2]), 2)
            self.register_buffer("modulations", modulations.flatten(1))
        self.heads = Heads(config.expert)
        self.layers = nn.ModuleList(
            _Layer(layer, config.expert.width, self.heads)  # type: ignore[arg-type]
            for layer in model.expert.layers
        )
        self.norm = _AdaRms(config.expert.width)
        self.action_in = Product(model.action_in_proj.weight, model.action_in_proj.bias)
        self.action_out = Product(model.action_out_proj.weight, model.action_out_proj.bias)
        # One more than the actions, for the conditioning token.
        self.register_buffer("turns", turn_table(positions + config.horizon + 1, config.expert, config.rope_theta))

    def arguments(self, given: Mapping[str, Tensor]) -> tuple[Tensor | None, ...]:
        """Arguments of `forward` from tensors by name: those of its parameters, and of an adapter packed."""
        names = ("cache", "length", "noise", "step", "action_prefix", "action_prefix_length", "condition")
        adapter = [given[name] for name in tensor_names(EXPERT_PAIRS)]
        return (*(given.get(name) for name in names), given["condition_mask"], *adapter)

    def forward(
        self,
        cache: Tensor,
        length: Tensor,
        noise: Tensor,
        step: Tensor | None,
        action_prefix: Tensor,
        action_prefix_length: Tensor,
        condition: Tensor,
        condition_mask: Tensor,
        *adapter: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Sample N chunks.

        Args:
            cache, length: what the prefix graph gave.
            noise: float32 [N, H, A]; for one step the noised actions.
            step: int64 [1], which step to make; None where a call makes all of them.
            action_prefix: float32 [H, A], the committed actions, then anything.
            action_prefix_length: int64 [1], how many actions are committed; 0 for none.
            condition: float32 [N, 1, width], a token that actions see beside the prefix, as if it stood behind the
                last action and always at flow time 0; its keys and values are the expert's own.
            condition_mask: bool [N], False for samples that do not see theirs.
            adapter: A and B of each of EXPERT_PAIRS, float32, of `lora.packed_shapes`; zeros change nothing.

        Returns:
            actions float32 [N, H, A] and velocities float32 [steps, N, H, A]; for one step the actions after it and
            its velocity [N, H, A].
        """
        call = self._prepare(
            cache, length, noise, action_prefix, action_prefix_length, condition, condition_mask, adapter
        )
        x, velocities = noise.reshape(-1, self.action_dim), []
        held = call.held.unsqueeze(1)
        for number in range(self.steps) if self.whole else (step,):
            x = torch.where(held, call.actions, x)
            velocity = self._velocity(x, torch.where(call.held, self.steps, number), call)  # type: ignore[arg-type]
            velocities.append(velocity)
            x = x - velocity * (1.0 / self.steps)
        x = torch.where(held, call.actions, x).reshape(-1, self.horizon, self.action_dim)
        if not self.whole:
            return x, velocities[0].reshape(-1, self.horizon, self.action_dim)
        return x, torch.cat(velocities).reshape(self.steps, -1, self.horizon, self.action_dim)

    def _velocity(self, x: Tensor, times: Tensor, call: _Call) -> Tensor:
        """[rows, A] -> [rows, A]."""
        x, by = adapted(self.action_in, x, call.factors["action_in"][0]), self._modulated(times)
        for index, layer in enumerate(self.layers):
            x = layer(x, by[2 * index : 2 * index + 2], call, index)
        return adapted(self.action_out, self.norm(x, by[-1]), call.factors["action_out"][0])

    def _modulated(self, times: Tensor) -> list[_Modulation]:
        """Of each norm, for `times` int64 [rows]."""
        tables = self.modulations.index_select(0, times).split(len(self.norm.ones), dim=1)
        return [_Modulation(*tables[place : place + 3]) for place in range(0, len(tables), 3)]

    def _prepare(
        self,
        cache: Tensor,
        length: Tensor,
        noise: Tensor,
        action_prefix: Tensor,
        action_prefix_length: Tensor,
        condition: Tensor,
        condition_mask: Tensor,
        adapter: Sequence[Tensor],
    ) -> _Call:
        """Everything that does not change from step to step."""
        count, horizon = noise.shape[0], self.horizon
        follows = torch.arange(horizon)
        held = (follows < action_prefix_length).unsqueeze(0).expand(count, -1).reshape(-1)
        actions = action_prefix.unsqueeze(0).expand(count, -1, -1).reshape(-1, self.action_dim)
        own = self.heads.angles(self.turns.index_select(1, length + follows))
        angles = own.unsqueeze(1).expand(-1, count, -1, -1, -1, -1).flatten(1, 2)
        factors = unpack(adapter, self.depth)
        token = condition.reshape(count, -1)
        still = self._modulated(torch.full_like(condition_mask, self.steps, dtype=torch.int64))
        behind = self.heads.angles(self.turns.index_select(1, length + horizon))
        caches = []
        for index, layer in enumerate(self.layers):
            _, keys, values = layer.project(token, still[2 * index], behind, factors["qkv"][index])  # type: ignore[operator]
            caches.append((torch.cat((cache[index, 0], keys)), torch.cat((cache[index, 1], values))))
        bias = self._bias(count, length, condition_mask)
        return _Call(held, actions, angles, bias, caches, factors)

    def _bias(self, count: int, length: Tensor, condition_mask: Tensor) -> Tensor:
        """Who sees whom: every action the real prefix, and of conditioning tokens and actions those of its sample."""
        horizon, queries = self.horizon, self.horizon * self.heads.heads
        samples = torch.arange(count)
        same = (samples.unsqueeze(1) == samples).unsqueeze(1).expand(-1, queries, -1).reshape(count * queries, count)
        seen = torch.cat(
            (
                (torch.arange(self.positions) < length).unsqueeze(0).expand(count * queries, -1),
                same & condition_mask,
                same.unsqueeze(2).expand(-1, -1, horizon).reshape(count * queries, count * horizon),
            ),
            dim=1,
        )
        return torch.where(seen, 0.0, BLOCKED)


def unpack(adapter: Sequence[Tensor], depth: int) -> dict[str, list[Factors]]:
    """A and B of each pair, transposed, layer by layer; pairs outside the layers have one.

    All layers of a pair are transposed at once: a transposition of each would melt into its Gemm, which onnxruntime's
    quantiser cannot take apart where the weights are inputs.
    """
    found: dict[str, list[Factors]] = {}
    for pair, *both in zip(EXPERT_PAIRS, adapter[::2], adapter[1::2], strict=True):
        stacks = [tensor.reshape(-1, *tensor.shape[-2:]).transpose(1, 2) for tensor in both]
        found[pair] = [(stacks[0][index], stacks[1][index]) for index in range(depth if pair in LAYER_PAIRS else 1)]
    return found
