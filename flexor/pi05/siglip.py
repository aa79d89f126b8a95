"""SigLIP's image tower as PaliGemma uses it: patches, learned positions, pre-norm ViT, last LayerNorm, no pooling.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343; So400m/14 in Pi0.5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexor.pi05.attention import attend
from flexor.pi05.config import VisionConfig
from flexor.pi05.precision import follow

_EPSILON = 1e-6


class SiglipLayer(nn.Module):
    """One pre-norm block; every linear has a bias, GELU in its tanh form."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width, eps=_EPSILON)
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.o_proj = nn.Linear(config.width, config.width)
        self.mlp_norm = nn.LayerNorm(config.width, eps=_EPSILON)
        self.fc1 = nn.Linear(config.width, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, P, width] -> the same shape; tokens of one image see each other."""
        normed = self.attention_norm(x)
        scale = (x.shape[-1] // self.heads) ** -0.5
        queries = self._split(self.q_proj(normed) * scale)
        mixed = attend(queries, self._split(self.k_proj(normed)), self._split(self.v_proj(normed)), None)
        x = x + self.o_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.mlp_norm(x)), approximate="tanh"))

    def _split(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Siglip(nn.Module):
    """Images to tokens."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        # The stem is a linear layer on flattened patches (channel, row, column): the same numbers as a convolution
        # whose stride is its size.
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, config.width)
        self.position_embedding = nn.Parameter(torch.empty(config.tokens, config.width))
        self.layers = nn.ModuleList(SiglipLayer(config) for _ in range(config.depth))
        self.post_norm = nn.LayerNorm(config.width, eps=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """float32 [B, 3, S, S] in [-1, 1] -> [B, P, width], patches row by row."""
        x = self.patch_embedding(split_patches(images, self.patch_size)) + self.position_embedding
        x = follow(x, self.post_norm.weight)
        for layer in self.layers:
            x = layer(x)
        return self.post_norm(x)


def split_patches(images: Tensor, size: int) -> Tensor:
    """[B, 3, S, S] -> flattened patches of size x size, row by row: [B, P, 3 * size * size]."""
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size * size)
