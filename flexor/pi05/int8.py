"""Products of 8-bit weights: with activations of 8 bits as well, and with activations as they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 127  # of int8, both ways: the scale is symmetric
SMALLEST = 1e-12  # largest number of a row, below which the row is as good as 0
ZERO = 128  # what 0 is as an unsigned byte
AT_ONCE = 1 << 17  # activations rounded at a time: what is between float and byte stays in the processor's cache
FEWEST_ROWS = 32  # torch._int_mm refuses 16 and fewer on a GPU


def round_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """Weights float32 [out, in] as int8, symmetric, rounded to nearest, by a scale an output channel, float32 [out]."""
    return (weight / scales[:, None]).round_().clamp_(-LARGEST, LARGEST).to(torch.int8)


class Int8:
    """8-bit weights, a scale an output channel, and 8-bit activations, a scale a token, found at run time (W8A8).

    Symmetric, rounded to nearest; sums are exact in int32.

    Args:
        by_onednn: who multiplies: oneDNN or torch._int_mm; oneDNN on a CPU when None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, by_onednn: bool | None = None) -> None:
        weight = weight.detach().float()
        self._scales = weight.abs().amax(dim=1).clamp_min(SMALLEST) / LARGEST
        rounded = round_weight(weight, self._scales)
        self._bias = None if bias is None else bias.detach()
        self._by_onednn = weight.device.type == "cpu" if by_onednn is None else by_onednn
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None) if self._by_onednn else rounded.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        flat = x.reshape(-1, x.shape[-1])
        scales = flat.abs().amax(dim=1, keepdim=True).float().clamp_min(SMALLEST) / LARGEST
        multiply = self._unsigned if self._by_onednn else self._signed
        found = multiply(flat, scales.reciprocal(), x.dtype)
        found.mul_(scales.to(found.dtype))
        if self._bias is not None:
            found.add_(self._bias.to(found.dtype))
        return found.view(*x.shape[:-1], -1)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return to + self(x)

    def _unsigned(self, flat: Tensor, by: Tensor, dtype: torch.dtype) -> Tensor:
        """oneDNN is quick where the activations are unsigned bytes."""
        bytes_ = torch.empty(flat.shape, dtype=torch.uint8)
        rows = max(1, AT_ONCE // flat.shape[1])
        for some, scale, out in zip(flat.split(rows), by.split(rows), bytes_.split(rows), strict=True):
            out.copy_((some * scale).round_().add_(ZERO))
        return torch.ops.onednn.qlinear_pointwise(
            bytes_, 1.0, ZERO, self._weight, self._scales, self._zeros, None, 1.0, 0, dtype, "none", [], ""
        )

    def _signed(self, flat: Tensor, by: Tensor, dtype: torch.dtype) -> Tensor:
        rows, bytes_ = len(flat), (flat * by).round_().to(torch.int8)
        if rows < FEWEST_ROWS:
            bytes_ = F.pad(bytes_, (0, 0, 0, FEWEST_ROWS - rows))
        sums = torch._int_mm(bytes_, self._weight)[:rows]  # pyright: ignore[reportPrivateImportUsage]
        return (sums * self._scales).to(dtype)


def widened(x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    """x [n, in] times int8 weights [out, in], scales [out], all of x's dtype."""
    return (x @ weight.to(x.dtype).t()) * scales


class Int8Weights:
    """8-bit weights, a scale an output channel, and bfloat16 activations as they are (weight-only).

    What it saves is reading weights, which is what a product of few tokens takes on a GPU. There widening has to be
    part of the product, which a compiler makes of it: weights that are written out wide are read once more than wide
    ones. On a CPU it is PyTorch's own product of these types (docs/precision.md has what each takes).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.detach().float()
        # Weights are divided by the scale as the product reads it: rounded to bfloat16.
        self._scales = (weight.abs().amax(dim=1).clamp_min(SMALLEST) / LARGEST).to(torch.bfloat16)
        self._weight = round_weight(weight, self._scales.float())
        self._bias = None if bias is None else bias.detach().to(torch.bfloat16)
        self._multiply = torch._weight_int8pack_mm  # pyright: ignore[reportPrivateImportUsage]
        if weight.device.type != "cpu":
            self._multiply = torch.compile(widened, dynamic=False, mode="max-autotune-no-cudagraphs")

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        found = self._multiply(x.reshape(-1, x.shape[-1]).contiguous(), self._weight, self._scales)
        if self._bias is not None:
            found = found + self._bias
        return found.view(*x.shape[:-1], -1)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return to + self(x)
