"""Products: linear maps of fixed weights, each computed in a precision of its own. Programs are made of them."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

PRECISIONS = ("fp32", "bf16", "int8")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}
"""What a stack of layers carries from one product to the next, by the precision of its products."""

LARGEST = 127  # of int8, both ways: the scale is symmetric
SMALLEST = 1e-12  # largest number of a row, below which the row is as good as 0
ZERO = 128  # what 0 is as an unsigned byte


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


class Int8:
    """8-bit weights, a scale an output channel, and 8-bit activations, a scale a token, found at run time (W8A8).

    Symmetric, rounded to nearest; sums are exact in int32.

    Args:
        by_onednn: who multiplies: oneDNN or torch._int_mm; oneDNN on a CPU when None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, by_onednn: bool | None = None) -> None:
        weight = weight.detach().float()
        self._scales = weight.abs().amax(dim=1).clamp_min(SMALLEST) / LARGEST
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._bias = None if bias is None else bias.detach()
        self._by_onednn = weight.device.type == "cpu" if by_onednn is None else by_onednn
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None) if self._by_onednn else rounded.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        flat = x.reshape(-1, x.shape[-1])
        scales = flat.abs().amax(dim=1, keepdim=True).float().clamp_min(SMALLEST) / LARGEST
        rounded = (flat * scales.reciprocal()).round_()
        found = self._unsigned(rounded, x.dtype) if self._by_onednn else self._signed(rounded, x.dtype)
        found.mul_(scales.to(found.dtype))
        if self._bias is not None:
            found.add_(self._bias.to(found.dtype))
        return found.view(*x.shape[:-1], -1)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return to + self(x)

    def _unsigned(self, rounded: Tensor, dtype: torch.dtype) -> Tensor:
        """oneDNN is quick where the activations are unsigned bytes."""
        bytes_ = rounded.add_(ZERO).to(torch.uint8)
        return torch.ops.onednn.qlinear_pointwise(
            bytes_, 1.0, ZERO, self._weight, self._scales, self._zeros, None, 1.0, 0, dtype, "none", [], ""
        )

    def _signed(self, rounded: Tensor, dtype: torch.dtype) -> Tensor:
        sums = torch._int_mm(rounded.to(torch.int8), self._weight)  # pyright: ignore[reportPrivateImportUsage]
        return (sums * self._scales).to(dtype)


def make_product(weight: Tensor, bias: Tensor | None, precision: str, stream: torch.dtype) -> Product:
    """The product of a precision for inputs of dtype `stream`; the weights [out, in] are copied.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    dtype = DTYPES[precision]
    product: Product = Int8(weight, bias) if precision == "int8" else Dense(weight, bias, dtype)
    return product if stream == dtype else Narrow(product, dtype)
