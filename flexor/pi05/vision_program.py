"""SigLIP and the projector, prepared."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexor.pi05.blocked import gelu
from flexor.pi05.model import Pi05
from flexor.pi05.prefix_weights import PrefixWeights
from flexor.pi05.products import DTYPES
from flexor.pi05.siglip import split_patches


class _Norm:
    """LayerNorm in the dtype of the stack, as the model has it."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self._shape, self._eps = norm.normalized_shape, norm.eps
        self._weight, self._bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class VisionProgram:
    """Images to prefix tokens, with the weights of whichever slot.

    Args:
        model: what of it no adapter changes is copied.
        precision: of the products; the stem is computed in float32.
    """

    def __init__(self, model: Pi05, precision: str) -> None:
        vision, self._stream = model.vision, DTYPES[precision]
        self._patch_size, self._heads = vision.patch_size, model.config.vision.heads
        self._stem = (vision.patch_embedding.weight.detach().float(), vision.patch_embedding.bias.detach().float())
        self._positions = vision.position_embedding.detach().float()
        self._norms = [
            tuple(_Norm(norm, self._stream) for norm in (layer.attention_norm, layer.mlp_norm))  # type: ignore[arg-type]
            for layer in vision.layers
        ]
        self._post_norm = _Norm(vision.post_norm, self._stream)

    def __call__(self, images: Tensor, weights: PrefixWeights) -> Tensor:
        """float32 [V, 3, S, S] in [-1, 1] -> [V, P, width of the prefix]."""
        x = (F.linear(split_patches(images, self._patch_size), *self._stem) + self._positions).to(self._stream)
        for layer, (attention_norm, mlp_norm) in zip(weights.tower, self._norms, strict=True):
            mixed = layer.qkv(attention_norm(x))
            q, k, v = mixed.unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
            seen = (q @ k.transpose(-1, -2)).float().softmax(dim=-1).to(x.dtype) @ v
            x = x + layer.o(seen.transpose(1, 2).flatten(2))
            x = x + layer.fc2(gelu(layer.fc1, mlp_norm(x)))
        return weights.projector(self._post_norm(x))
