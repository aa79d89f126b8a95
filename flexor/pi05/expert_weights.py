"""ExpertWeights: the expert's weights as its programs multiply with them, the model's own or with an adapter merged in.

An adapter is merged before weights are rounded to the precision of their products: a program carries it at no cost, in
any precision, and computes what a model with merged weights would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.config import Pi05Config
from flexor.pi05.products import Product, make_product

Weight = Callable[[str], Tensor]
"""A projection's weight [out, in] by its name in `Pi05`, and a bias [out] by its own."""


def pair_channels(weight: Tensor, head_dim: int) -> Tensor:
    """Reorder the rows of a q or k projection, in each head, from (first halves, second halves) to pairs."""
    heads = weight.unflatten(0, (-1, 2, head_dim // 2))
    return heads.transpose(1, 2).reshape(weight.shape)


def fuse_qkv(q: Tensor, k: Tensor, v: Tensor, head_dim: int) -> Tensor:
    """q (scaled here), k and v stacked, channels of q and k paired: float32 [(heads + 2) * head_dim, in]."""
    q = pair_channels(q.float(), head_dim) * head_dim**-0.5
    return torch.cat((q, pair_channels(k.float(), head_dim), v.float())).contiguous()


class LayerProducts:
    """The products of one layer; arguments as of ExpertWeights."""

    def __init__(self, layer: int, weight: Weight, head_dim: int, precision: str, joined: bool) -> None:
        def product(*parts: Tensor) -> Product:
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            return make_product(whole, None, precision, torch.float32)

        q, k, v, o = (weight(f"expert.layers.{layer}.attention.{name}_proj") for name in "qkvo")
        self.qkv, self.o = product(fuse_qkv(q, k, v, head_dim)), product(o)
        gate, up, down = (weight(f"expert.layers.{layer}.mlp.{name}_proj") for name in ("gate", "up", "down"))
        self.gate, self.up = (product(gate, up), None) if joined else (product(gate), product(up))
        self.down = product(down)

    def hidden(self, x: Tensor) -> Tensor:
        """What `down` reads: [n, width] -> [n, mlp_dim]."""
        gate, up = self.gate(x).chunk(2, dim=-1) if self.up is None else (self.gate(x), self.up(x))
        return F.gelu(gate, approximate="tanh").mul_(up)


class ExpertWeights:
    """All that an adapter may change; never changed once it is there.

    Args:
        config: of the model.
        weight: what is multiplied with.
        precision: of the layers' products; action projections are float32.
        joined: gate and up are one product, which spares a GPU a kernel; a CPU is a twelfth slower with it.

    Attributes:
        layers: the products of each.
        action_in, action_out: weight [out, in] and bias.
    """

    def __init__(self, config: Pi05Config, weight: Weight, precision: str, joined: bool) -> None:
        size = config.expert.head_dim
        self.layers = [LayerProducts(layer, weight, size, precision, joined) for layer in range(config.expert.depth)]
        self.action_in = (weight("action_in_proj").float(), weight("action_in_proj.bias").float())
        self.action_out = (weight("action_out_proj").float(), weight("action_out_proj.bias").float())


def assign_weights(to: object, of: object) -> None:
    """Copy all numbers into tensors that stay where they are; both of the same model, precision and layout.

    Args:
        to, of: products, ExpertWeights, or tuples of such.
    """
    written: set[int] = set()
    for target, source in zip(weight_tensors(to), weight_tensors(of), strict=True):
        if target.data_ptr() not in written:  # a product keeps views of its weight, too
            target.copy_(source, non_blocking=True)
            written.add(target.data_ptr())
            if source.is_cuda:
                source.record_stream(torch.cuda.current_stream(source.device))


def weight_tensors(part: object) -> Iterator[Tensor]:
    """Every tensor below an object, in an order that depends on its layout alone."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, list | tuple):
        for item in part:
            yield from weight_tensors(item)
    elif type(part).__module__.startswith("flexor."):
        yield from weight_tensors(list(vars(part).values()))
