"""Both programs of a model, prepared for one observation at a time in float32.

The same numbers as `Pi05.encode` and `Pi05.denoise` to float32 rounding, in a fraction of the operations; the eager
model stays the definition. Weights are copied when it is built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.expert_program import ExpertProgram, fuse_qkv, turn, turns
from flexor.pi05.gemma import EPSILON, GemmaLayer
from flexor.pi05.model import Pi05
from flexor.pi05.siglip import SiglipLayer


@dataclass(frozen=True, slots=True)
class ProgramPrefix:
    """The cache of one observation: per layer [N, head_dim]. Keys are in the programs' own channel order.

    `rope` complex64 [H, head_dim / 2] holds the positions that follow: those of the actions.
    """

    keys: list[Tensor]
    values: list[Tensor]
    rope: Tensor


class _VisionLayer:
    """One SigLIP layer with q (scaled), k and v fused."""

    def __init__(self, layer: SiglipLayer) -> None:
        scale = (layer.q_proj.in_features // layer.heads) ** -0.5
        self.source = layer
        self.qkv_weight = torch.cat((layer.q_proj.weight * scale, layer.k_proj.weight, layer.v_proj.weight))
        self.qkv_bias = torch.cat((layer.q_proj.bias * scale, layer.k_proj.bias, layer.v_proj.bias))

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.source
        mixed = F.linear(layer.attention_norm(x), self.qkv_weight, self.qkv_bias)
        q, k, v = mixed.unflatten(-1, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v
        x = x + layer.o_proj(seen.transpose(1, 2).flatten(2))
        return x + layer.fc2(F.gelu(layer.fc1(layer.mlp_norm(x)), approximate="tanh"))


class _PrefixLayer:
    """One Gemma layer with q (scaled), k and v fused and channels paired."""

    def __init__(self, layer: GemmaLayer) -> None:
        attention = layer.attention
        self.heads, self.head_dim = attention.heads, attention.head_dim
        self.attention_norm = 1.0 + layer.attention_norm.weight
        self.mlp_norm = 1.0 + layer.mlp_norm.weight
        self.qkv = fuse_qkv(attention)
        self.keys_values_weight = self.qkv[self.heads * self.head_dim :].contiguous()
        self.o = attention.o_proj.weight.t()
        self.gate, self.up = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight
        self.down = layer.mlp.down_proj.weight.t()

    def keys_values(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        normed = F.rms_norm(x, x.shape[-1:], self.attention_norm, EPSILON)
        keys, values = F.linear(normed, self.keys_values_weight).split(self.head_dim, dim=-1)
        return turn(keys, rope), values

    def __call__(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixed = F.linear(F.rms_norm(x, x.shape[-1:], self.attention_norm, EPSILON), self.qkv)
        rotated, values = mixed.split(((self.heads + 1) * self.head_dim, self.head_dim), dim=-1)
        rotated = turn(rotated.unflatten(-1, (-1, self.head_dim)), rope[:, None])
        keys = rotated[:, self.heads].contiguous()
        scores = rotated[:, : self.heads].reshape(-1, self.head_dim) @ keys.t()
        seen = (scores.softmax(dim=-1) @ values).view(x.shape[0], -1)
        x = torch.addmm(x, seen, self.o)
        normed = F.rms_norm(x, x.shape[-1:], self.mlp_norm, EPSILON)
        hidden = F.gelu(F.linear(normed, self.gate), approximate="tanh").mul_(F.linear(normed, self.up))
        return torch.addmm(x, hidden, self.down), keys, values


class Program:
    """A model ready to answer one observation after another.

    Args:
        model: float32 parameters on the device where it runs, one key head.
        steps: Euler steps of `denoise`, at least 1.

    Raises:
        ValueError: other parameters or steps than these.
    """

    @torch.inference_mode()
    def __init__(self, model: Pi05, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"flow steps are {steps}; expected at least 1")
        if model.config.prefix.kv_heads != 1:
            raise ValueError(f"kv_heads is {model.config.prefix.kv_heads}; a program needs 1, use the model itself")
        if other := {p.dtype for p in model.parameters()} - {torch.float32}:
            raise ValueError(f"parameters are {other.pop()}; a program needs float32, use the model itself")
        self.model = model
        self._vision = [_VisionLayer(layer) for layer in model.vision.layers]  # type: ignore[arg-type]
        self._layers = [_PrefixLayer(layer) for layer in model.prefix_layers]  # type: ignore[arg-type]
        self._embedding_scale = math.sqrt(model.config.prefix.width)
        self._expert = ExpertProgram(model, steps)
        self._rope = self._turns(0)

    @torch.inference_mode()
    def encode(self, images: Tensor, tokens: Tensor) -> ProgramPrefix:
        """Run the prefix program on images float32 [V, 3, S, S] in [-1, 1] and tokens int64 [T].

        Raises:
            ValueError: a shape that does not fit the config.
        """
        config, model = self.model.config, self.model
        size = config.vision.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size) or tokens.ndim != 1:
            raise ValueError(
                f"images {list(images.shape)} and tokens {list(tokens.shape)}; expected [cameras, 3, {size}, {size}] "
                "and [T]"
            )
        seen = model.vision.patch_embedding(model.vision.patches(images)) + model.vision.position_embedding
        for layer in self._vision:
            seen = layer(seen)
        seen = model.projector(model.vision.post_norm(seen)).flatten(0, 1)
        x = torch.cat((seen, model.token_embedding(tokens) * self._embedding_scale))
        count = len(x)
        if len(self._rope) < count + config.horizon:
            self._rope = self._turns(count)
        rope = self._rope[:count]
        keys, values = [], []
        for layer in self._layers[:-1]:
            x, key, value = layer(x, rope)
            keys.append(key)
            values.append(value)
        key, value = self._layers[-1].keys_values(x, rope)
        following = self._rope[count : count + config.horizon]
        return ProgramPrefix(keys=[*keys, key], values=[*values, value], rope=following)

    @torch.inference_mode()
    def denoise(
        self, prefix: ProgramPrefix, noise: Tensor, action_prefix: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sample N chunks from noise float32 [N, H, A]; see `Pi05.denoise` for the clamped prefix and the errors."""
        self.model.check_denoise(noise, self._expert.steps, action_prefix)
        return self._expert.denoise(prefix.keys, prefix.values, prefix.rope, noise, action_prefix)

    def _turns(self, count: int) -> Tensor:
        """Rotary positions of `count` prefix tokens, or of the usual number if that is more, and of the actions."""
        config, device = self.model.config, self.model.token_embedding.weight.device
        length = max(count, 2 * config.vision.tokens + config.max_prompt_tokens) + config.horizon
        return turns(torch.arange(length, device=device), config.prefix.head_dim, config.rope_theta)
