"""SigLIP and the projector, prepared: q, k and v are one product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexor.pi05.blocked import gelu
from flexor.pi05.fp8 import take_scales
from flexor.pi05.merged_weights import MergedWeights
from flexor.pi05.model import Pi05
from flexor.pi05.products import DTYPES, Product, make_product, take_layers
from flexor.pi05.siglip import SiglipLayer, split_patches


class _Norm:
    """LayerNorm in the dtype of the stack, as the model has it."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self._shape, self._eps = norm.normalized_shape, norm.eps
        self._weight, self._bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class _Layer:
    """One pre-norm block; q is scaled in its weights."""

    def __init__(self, layer: SiglipLayer, precision: str) -> None:
        stream = DTYPES[precision]
        scale = (layer.q_proj.in_features // layer.heads) ** -0.5
        q, k, v = ((part.weight.float(), part.bias.float()) for part in (layer.q_proj, layer.k_proj, layer.v_proj))
        weight, bias = torch.cat((q[0] * scale, k[0], v[0])), torch.cat((q[1] * scale, k[1], v[1]))
        self.heads = layer.heads
        self.qkv = make_product(weight, bias, precision, stream)
        self.o, self.fc1, self.fc2 = (
            make_product(linear.weight, linear.bias, precision, stream)
            for linear in (layer.o_proj, layer.fc1, layer.fc2)
        )
        self.attention_norm, self.mlp_norm = _Norm(layer.attention_norm, stream), _Norm(layer.mlp_norm, stream)

    def __call__(self, x: Tensor) -> Tensor:
        mixed = self.qkv(self.attention_norm(x))
        q, k, v = mixed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = (q @ k.transpose(-1, -2)).float().softmax(dim=-1).to(x.dtype) @ v
        x = x + self.o(seen.transpose(1, 2).flatten(2))
        return x + self.fc2(gelu(self.fc1, self.mlp_norm(x)))


class VisionProgram:
    """Images to prefix tokens.

    Args:
        model: its weights are copied.
        precision: of the products; the stem is computed in float32.
        release: the model's layers are given up one by one as they are copied.
    """

    def __init__(self, model: Pi05, precision: str, release: bool = False) -> None:
        vision, self._stream = model.vision, DTYPES[precision]
        self._patch_size = vision.patch_size
        self._stem = (vision.patch_embedding.weight.detach().float(), vision.patch_embedding.bias.detach().float())
        self._positions = vision.position_embedding.detach().float()
        self._layers = [_Layer(layer, precision) for layer in take_layers(vision.layers, release)]  # type: ignore[arg-type]
        self._post_norm = _Norm(vision.post_norm, self._stream)
        self._precision = precision
        self.projector = make_product(model.projector.weight, model.projector.bias, precision, self._stream)

    def merge(self, merged: MergedWeights) -> Product:
        """A projector of this model with an adapter, new tensors.

        Raises:
            ValueError: numbers that are not finite.
        """
        projector = make_product(merged("projector"), merged("projector.bias"), self._precision, self._stream)
        take_scales([projector], [self.projector])
        return projector

    def __call__(self, images: Tensor, projector: Product) -> Tensor:
        """float32 [V, 3, S, S] in [-1, 1] -> [V, P, width of the prefix], through the own projector or a merged one."""
        x = (F.linear(split_patches(images, self._patch_size), *self._stem) + self._positions).to(self._stream)
        for layer in self._layers:
            x = layer(x)
        return projector(self._post_norm(x))
