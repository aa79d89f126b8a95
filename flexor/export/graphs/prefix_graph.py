"""PrefixGraph: `Pi05.encode` of one observation, for a fixed number of cameras and prompts padded to a length."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexor.export.graphs.layers import (
    BLOCKED,
    Factors,
    Heads,
    Norm,
    Product,
    adapted,
    fused_gate_up,
    fused_qkv,
    geglu,
    turn_table,
)
from flexor.pi05.config import Pi05Config
from flexor.pi05.gemma import GemmaLayer
from flexor.pi05.lora import tensor_names
from flexor.pi05.lora_targets import PREFIX_PAIRS
from flexor.pi05.model import Pi05
from flexor.pi05.siglip import Siglip, SiglipLayer, split_patches


class _VisionLayer(nn.Module):
    """One block of SigLIP; q, k and v are one product, q scaled in its weights."""

    def __init__(self, layer: SiglipLayer) -> None:
        super().__init__()
        self.width, self.head_dim = layer.q_proj.in_features, layer.q_proj.in_features // layer.heads
        scale = self.head_dim**-0.5
        q, k, v = ((part.weight.float(), part.bias.float()) for part in (layer.q_proj, layer.k_proj, layer.v_proj))
        self.heads = layer.heads
        self.attention_norm, self.mlp_norm = layer.attention_norm, layer.mlp_norm
        self.qkv = Product(torch.cat((q[0] * scale, k[0], v[0])), torch.cat((q[1] * scale, k[1], v[1])))
        self.o = Product(layer.o_proj.weight, layer.o_proj.bias)
        self.fc1, self.fc2 = Product(layer.fc1.weight, layer.fc1.bias), Product(layer.fc2.weight, layer.fc2.bias)

    def forward(self, x: Tensor, views: int) -> Tensor:
        """[views * patches, width] -> the same shape; tokens of one image see each other."""
        mixed = self.qkv(self.attention_norm(x)).reshape(views, -1, 3, self.heads, self.head_dim)
        q, k, v = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        seen = (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v
        x = x + self.o(seen.transpose(1, 2).reshape(-1, self.width))
        return x + self.fc2(F.gelu(self.fc1(self.mlp_norm(x)), approximate="tanh"))


class _Vision(nn.Module):
    """Images to prefix tokens."""

    def __init__(self, vision: Siglip, projector: nn.Linear, views: int) -> None:
        super().__init__()
        self.patch_size, self.views = vision.patch_size, views
        self.stem = Product(vision.patch_embedding.weight, vision.patch_embedding.bias)
        self.positions = nn.Parameter(vision.position_embedding.detach().float().repeat(views, 1), requires_grad=False)
        self.layers = nn.ModuleList(_VisionLayer(layer) for layer in vision.layers)  # type: ignore[arg-type]
        self.post_norm = vision.post_norm
        self.projector = Product(projector.weight, projector.bias)

    def forward(self, images: Tensor, projector: Factors) -> Tensor:
        """[views, 3, S, S] -> [views * patches, width of the prefix]."""
        x = self.stem(split_patches(images, self.patch_size).flatten(0, 1)) + self.positions
        for layer in self.layers:
            x = layer(x, self.views)
        return adapted(self.projector, self.post_norm(x), projector)


class _Layer(nn.Module):
    """One Gemma block over the whole prefix."""

    def __init__(self, layer: GemmaLayer, heads: Heads) -> None:
        super().__init__()
        self.heads, self.mlp_dim = heads, layer.mlp.down_proj.in_features
        self.attention_norm, self.mlp_norm = Norm(layer.attention_norm), Norm(layer.mlp_norm)
        self.qkv, self.o = Product(fused_qkv(layer.attention)), Product(layer.attention.o_proj.weight)
        self.gate_up, self.down = Product(fused_gate_up(layer.mlp)), Product(layer.mlp.down_proj.weight)

    def forward(self, x: Tensor, angles: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [rows, width] -> (tokens, keys, values)."""
        queries, keys, values = self.heads(self.qkv(self.attention_norm(x)), angles)
        x = x + self.o(self.heads.attend(queries, keys, values, bias))
        return x + self.down(geglu(self.gate_up(self.mlp_norm(x)), self.mlp_dim)), keys, values


class _LastLayer(nn.Module):
    """Of the last layer only keys and values are ever read."""

    def __init__(self, layer: GemmaLayer) -> None:
        super().__init__()
        self.head_dim, self.norm = layer.attention.head_dim, Norm(layer.attention_norm)
        self.keys_values = Product(torch.cat((layer.attention.k_proj.weight, layer.attention.v_proj.weight)))

    def forward(self, x: Tensor, turns: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [rows, width] -> keys, values [rows, head_dim]."""
        keys, values = self.keys_values(self.norm(x)).split(self.head_dim, dim=1)
        halves = keys.reshape(-1, 2, self.head_dim // 2)
        return (halves * turns[0] + halves.index_select(1, flip) * turns[1]).reshape(-1, self.head_dim), values


class PrefixGraph(nn.Module):
    """The prefix program of one observation.

    Args:
        model: its weights are copied or shared; it must not be changed any more.
        views: number of cameras.
        prompt_tokens: T that prompts are padded to.

    Raises:
        ValueError: a model of several key heads.
    """

    turns: Tensor
    angles: Tensor

    def __init__(self, model: Pi05, views: int, prompt_tokens: int) -> None:
        super().__init__()
        config = model.config
        check_key_heads(config)
        self.images = views * config.vision.tokens
        self.count = self.images + prompt_tokens
        self.vision = _Vision(model.vision, model.projector, views)
        scaled = model.token_embedding.weight.detach().float() * math.sqrt(config.prefix.width)
        self.embedding = nn.Parameter(scaled, requires_grad=False)
        heads = Heads(config.prefix)
        *whole, last = model.prefix_layers
        self.layers = nn.ModuleList(_Layer(layer, heads) for layer in whole)  # type: ignore[arg-type]
        self.last = _LastLayer(last)  # type: ignore[arg-type]
        self.heads = heads
        turns = turn_table(self.count, config.prefix, config.rope_theta)
        self.register_buffer("turns", turns)
        self.register_buffer("angles", heads.angles(turns))

    def arguments(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Arguments of `forward` from tensors by name."""
        return tuple(given[name] for name in ("images", "tokens", "token_count", *tensor_names(PREFIX_PAIRS)))

    def forward(
        self, images: Tensor, tokens: Tensor, token_count: Tensor, projector_a: Tensor, projector_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read one observation.

        Args:
            images: float32 [V, 3, S, S] in [-1, 1].
            tokens: int64 [T], the prompt and then anything.
            token_count: int64 [1], how many of them are the prompt.
            projector_a, projector_b: float32, of `lora.packed_shapes`; zeros change nothing.

        Returns:
            cache float32 [L, 2, P, head_dim], keys (rotated) and values of P = V * patches + T positions, and length
            int64 [1], how many of those positions are real; the rest must not be read.
        """
        seen = self.vision(images, (projector_a.t(), projector_b.t()))
        x = torch.cat((seen, F.embedding(tokens, self.embedding)))
        length = token_count + self.images
        # Padding comes last, so that positions count real tokens.
        bias = torch.where(torch.arange(self.count) < length, 0.0, BLOCKED)
        entries = []
        for layer in self.layers:
            x, keys, values = layer(x, self.angles, bias)
            entries += [keys, values]
        entries += self.last(x, self.turns, self.heads.flip)
        return torch.stack(entries).reshape(-1, 2, *entries[0].shape), length


def check_key_heads(config: Pi05Config) -> None:
    """Refuse what the graphs cannot compute.

    Raises:
        ValueError: several key heads.
    """
    if config.prefix.kv_heads != 1:
        raise ValueError(f"kv_heads is {config.prefix.kv_heads}; graphs are made of models with 1, as every Pi0.5 has")
