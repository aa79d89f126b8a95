"""Products on a CPU whose weights lie as oneDNN multiplies them, blocked once; what follows a product is done in it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST_WEIGHTS = 1 << 17
"""Below this a call costs more than blocks save."""

_ROWS = 512  # that blocks are chosen for; other numbers of rows are as quick


def can_block(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether Blocked multiplies by these weights here, and sooner than PyTorch's own product does."""
    mkldnn = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if not mkldnn or weight.numel() < FEWEST_WEIGHTS:
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Blocked:
    """Weights in the dtype of what they are multiplied with, see `flexor.pi05.products.Product`.

    Args:
        weight: [out, in]; copied.
        bias: [out], or None.
        dtype: float32 or bfloat16, as `can_block` allows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype).contiguous(), _ROWS)
        self._bias = None if bias is None else bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        return self._multiply(x, "none", "")

    def gelu(self, x: Tensor) -> Tensor:
        """GELU, tanh form, of the product."""
        return self._multiply(x, "gelu", "tanh")

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return self._joined(x, to, "add")

    def times(self, x: Tensor, by: Tensor) -> Tensor:
        """The product times `by`, element by element, a new tensor."""
        return self._joined(x, by, "mul")

    def _multiply(self, x: Tensor, then: str, form: str) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, then, [], form)

    def _joined(self, x: Tensor, other: Tensor, how: str) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, how)


def gelu(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """GELU, tanh form, of a Product of x."""
    if isinstance(product, Blocked):
        return product.gelu(x)
    return F.gelu(product(x), approximate="tanh")


def gated(gate: Callable[[Tensor], Tensor], up: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a gated MLP hides: GELU of one Product of x, times another one."""
    opened = gelu(gate, x)
    return up.times(x, opened) if isinstance(up, Blocked) else opened.mul_(up(x))
