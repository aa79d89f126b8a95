"""Products: linear maps of fixed weights, each computed in a precision of its own. Programs are made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.blocked import Blocked, can_block
from flexor.pi05.footprint import WEIGHT_BYTES
from flexor.pi05.fp8 import Fp8
from flexor.pi05.int8 import Int8, Int8Weights

PRECISIONS = tuple(WEIGHT_BYTES)
DENSE = ("fp32", "bf16")
DTYPES = {name: torch.float32 if name == "fp32" else torch.bfloat16 for name in PRECISIONS}
"""What a stack of layers carries from one product to the next, by the precision of its products."""


class Product(Protocol):
    """x W^T + b."""

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out], in x's dtype."""
        ...

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """`to` [n, out] plus the product of x [n, in], a new tensor."""
        ...


class Dense:
    """Weights in the dtype of what they are multiplied with."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._weight = weight.detach().to(dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._transposed = self._weight.t()

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        return F.linear(x, self._weight, self._bias)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return torch.addmm(to, x, self._transposed) if self._bias is None else to + self(x)


class Narrow:
    """Weights narrower than what they are multiplied with, which is rounded on the way in."""

    def __init__(self, product: Product, dtype: torch.dtype) -> None:
        self._product, self._dtype = product, dtype

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        return self._product(x.to(self._dtype)).to(x.dtype)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return to + self(x)


def make_product(weight: Tensor, bias: Tensor | None, precision: str, stream: torch.dtype) -> Product:
    """The product of a precision for inputs of dtype `stream`; the weights [out, in] are copied.

    Raises:
        ValueError: an unknown precision, or sizes that it does not multiply.
        ModuleNotFoundError: bnb8 without bitsandbytes.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    dtype = DTYPES[precision]
    product: Product = _dense(weight, bias, dtype) if precision in DENSE else _eight_bits(precision)(weight, bias)
    return product if stream == dtype else Narrow(product, dtype)


def _dense(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Product:
    return (Blocked if can_block(weight, dtype) else Dense)(weight, bias, dtype)


def _eight_bits(precision: str) -> Callable[[Tensor, Tensor | None], Product]:
    if precision == "bnb8":
        from flexor.pi05.bnb8 import Bnb8  # takes seconds to import, and nothing else needs it

        return Bnb8
    return {"int8": Int8, "int8w": Int8Weights, "fp8": Fp8}[precision]
