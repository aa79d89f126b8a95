"""Products of 8-bit floating point (e4m3): weights with a scale a channel, activations with one found beforehand.

A scale that is found at run time costs a pass over the activations before every product; one that is found once, on
recorded observations, costs nothing. A product without its scale observes: it multiplies activations as they are with
its 8-bit weights, and remembers the largest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0  # of e4m3, which has no infinity
SMALLEST = 1e-12  # largest number of a channel, below which it is as good as 0
SPARE = 2.0  # how many times larger than any that was observed an activation may be before it is cut
LEAST_CAPABILITY = (8, 9)  # of GPUs that multiply e4m3: Ada, Hopper and later
UNIT = 16  # sizes of a product on a GPU are multiples of it


def multiplies_e4m3(device: torch.device) -> bool:
    """Whether the device does so itself; elsewhere the same numbers are computed in float32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


def scale_of(largest: float) -> float:
    """The scale of activations of which `largest` was the largest observed.

    A power of two: dividing by it rounds nothing, and in floating point a scale twice too large costs no precision.
    """
    return 2.0 ** math.ceil(math.log2(SPARE * max(largest, SMALLEST) / LARGEST))


class Fp8:
    """W8A8 in e4m3, sums in float32, results in the dtype of x.

    Attributes:
        largest: absolute activation observed so far, float32 [].

    Args:
        by_scaled_mm: whether torch._scaled_mm multiplies; where the device multiplies e4m3 when None.

    Raises:
        ValueError: sizes that a GPU does not multiply.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, by_scaled_mm: bool | None = None) -> None:
        self._by_scaled_mm = multiplies_e4m3(weight.device) if by_scaled_mm is None else by_scaled_mm
        if self._by_scaled_mm and (weight.shape[0] % UNIT or weight.shape[1] % UNIT):
            raise ValueError(f"fp8 multiplies weights in multiples of {UNIT}; these are {list(weight.shape)}: use bf16")
        weight = weight.detach().float()
        self._weight_scales = weight.abs().amax(dim=1).clamp_min(SMALLEST) / LARGEST
        self._weight = (weight / self._weight_scales[:, None]).to(E4M3)
        self._bias = None if bias is None else bias.detach()
        self.largest = torch.zeros((), device=weight.device)
        self._per_scale: float | None = None
        self._scales = self._weight_scales[None]  # [1, out], of the sums

    def calibrate(self, largest: float) -> None:
        """From now on activations are rounded, too, by the scale that follows from the largest observed."""
        scale = scale_of(largest)
        self._per_scale = 1.0 / scale
        self._scales = self._weight_scales[None] * scale

    def take_scale(self, other: Fp8) -> None:
        """Round activations by the scale of another product, or observe them as it does."""
        self._per_scale = other._per_scale
        self._scales = self._weight_scales[None] * (1.0 if other._per_scale is None else 1.0 / other._per_scale)

    def __call__(self, x: Tensor) -> Tensor:
        """See Product."""
        flat = x.reshape(-1, x.shape[-1])
        if self._per_scale is None:
            self.largest.copy_(torch.maximum(self.largest, flat.abs().amax().float()))
            found = (flat.float() @ self._weight.float().t()) * self._scales
        else:
            rounded = (flat * self._per_scale).clamp_(-LARGEST, LARGEST).to(E4M3)
            found = self._scaled(rounded) if self._by_scaled_mm else self._emulated(rounded)
        found = found.to(x.dtype)
        if self._bias is not None:
            found = found + self._bias.to(x.dtype)
        return found.view(*x.shape[:-1], -1)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """See Product."""
        return to + self(x)

    def _scaled(self, rounded: Tensor) -> Tensor:
        ones = _ones(len(rounded), rounded.device)
        multiply = torch._scaled_mm  # pyright: ignore[reportPrivateImportUsage]
        return multiply(rounded, self._weight.t(), ones, self._scales, out_dtype=torch.bfloat16)

    def _emulated(self, rounded: Tensor) -> Tensor:
        return (rounded.float() @ self._weight.float().t()) * self._scales


@functools.cache
def _ones(rows: int, device: torch.device) -> Tensor:
    """Scales of so many rows; kept for ever, since a CUDA graph reads them where they were when it was recorded."""
    return torch.ones(rows, 1, device=device)


def observed(program: object) -> dict[str, float]:
    """The largest activation that each e4m3 product of a program has seen, by the product's place in it."""
    return {name: float(product.largest) for name, product in _products(program, "")}


def calibrate(program: object, largest: Mapping[str, float]) -> None:
    """Give every e4m3 product of a program its scale; numbers of products that it does not have are left alone.

    Raises:
        KeyError: a product without a number, named.
    """
    for name, product in _products(program, ""):
        product.calibrate(largest[name])


def take_scales(part: object, other: object) -> None:
    """Give every e4m3 product below an object the scale that its like has in another object of the same layout."""
    for (_, product), (_, like) in zip(_products(part, ""), _products(other, ""), strict=True):
        product.take_scale(like)


def _products(part: object, name: str) -> Iterator[tuple[str, Fp8]]:
    """Every e4m3 product below an object: in its attributes, in theirs, and in lists of such."""
    if isinstance(part, Fp8):
        yield name, part
    elif isinstance(part, list | tuple):
        for index, item in enumerate(part):
            yield from _products(item, f"{name}.{index}")
    elif type(part).__module__.startswith("flexor.") and hasattr(part, "__dict__"):
        for attribute, value in vars(part).items():
            yield from _products(value, f"{name}.{attribute.strip('_')}" if name else attribute.strip("_"))
