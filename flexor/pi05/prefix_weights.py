"""PrefixWeights: what sees and reads, as its program multiplies with it, the model's own or with an adapter merged in.

Norms, stem and embedding are not here: no adapter changes them.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from flexor.pi05.config import Pi05Config
from flexor.pi05.expert_weights import Weight, fuse_qkv, pair_channels
from flexor.pi05.model import Pi05
from flexor.pi05.products import DTYPES, Product, make_product


class TowerProducts:
    """The products of one SigLIP layer; q is scaled in its weights."""

    def __init__(self, layer: int, weight: Weight, heads: int, precision: str) -> None:
        def both(name: str) -> tuple[Tensor, Tensor]:
            path = f"vision.layers.{layer}.{name}"
            return weight(path), weight(f"{path}.bias")

        stream = DTYPES[precision]
        q, k, v = ((part.float() for part in both(f"{name}_proj")) for name in "qkv")
        (q_weight, q_bias), (k_weight, k_bias), (v_weight, v_bias) = q, k, v
        scale = (q_weight.shape[1] // heads) ** -0.5
        fused = torch.cat((q_weight * scale, k_weight, v_weight)), torch.cat((q_bias * scale, k_bias, v_bias))
        self.qkv = make_product(*fused, precision, stream)
        self.o, self.fc1, self.fc2 = (make_product(*both(name), precision, stream) for name in ("o_proj", "fc1", "fc2"))


class ReaderProducts:
    """The products of one Gemma layer, but for the last: q (scaled), k and v fused and channels paired."""

    def __init__(self, layer: int, weight: Weight, head_dim: int, precision: str) -> None:
        stream, path = DTYPES[precision], f"prefix_layers.{layer}"
        q, k, v = (weight(f"{path}.attention.{name}_proj") for name in "qkv")
        self.qkv = make_product(fuse_qkv(q, k, v, head_dim), None, precision, stream)
        self.o = make_product(weight(f"{path}.attention.o_proj"), None, precision, stream)
        self.gate, self.up, self.down = (
            make_product(weight(f"{path}.mlp.{name}_proj"), None, precision, stream) for name in ("gate", "up", "down")
        )


class PrefixWeights:
    """All that an adapter may change of it; never changed once it is there.

    Args:
        config: of the model.
        weight: what is multiplied with.
        precision: of the products.

    Attributes:
        tower: of every layer of the image tower.
        projector: from it to the prefix.
        layers: of every layer of the prefix but the last, of which only keys_values are ever read.
    """

    def __init__(self, config: Pi05Config, weight: Weight, precision: str) -> None:
        vision, prefix, stream = config.vision, config.prefix, DTYPES[precision]
        self.tower = [TowerProducts(layer, weight, vision.heads, precision) for layer in range(vision.depth)]
        self.projector = make_projector(weight, precision)
        last = prefix.depth - 1
        self.layers = [ReaderProducts(layer, weight, prefix.head_dim, precision) for layer in range(last)]
        k, v = (weight(f"prefix_layers.{last}.attention.{name}_proj") for name in "kv")
        both = torch.cat((pair_channels(k.float(), prefix.head_dim), v.float()))
        self.keys_values = make_product(both, None, precision, stream)

    def with_projector(self, projector: Product) -> PrefixWeights:
        """These with another projector; all else is shared."""
        changed = copy.copy(self)
        changed.projector = projector
        return changed


def make_projector(weight: Weight, precision: str) -> Product:
    """The product of the projector."""
    return make_product(weight("projector"), weight("projector.bias"), precision, DTYPES[precision])


def layer_weights(model: Pi05, release: bool) -> Weight:
    """The weights of a model as they are; with `release` it gives each one up as it is read, so that it is in memory
    once. What is never read stays."""

    def weight(name: str) -> Tensor:
        path = name if name.endswith(".bias") else f"{name}.weight"
        parameter = model.get_parameter(path)
        if release and name != "projector" and path.startswith(("vision.layers.", "prefix_layers.")):
            owner, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(owner), leaf, nn.Parameter(parameter.new_empty(0), requires_grad=False))
        return parameter.detach()

    return weight
