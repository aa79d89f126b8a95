"""What the machine itself can do: bytes copied and operations multiplied in a second, by PyTorch, on one device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from flexor.pi05.fp8 import Fp8
from flexor.pi05.products import make_product

COPIED = 256 << 20  # bytes: far more than any cache holds
ROWS, INNER, OUTER = 512, 2048, 8192  # of the product that is timed: tokens of a prefix, and a layer of Gemma
LARGEST = 4.0  # of the activations, which are standard normal
BEST_OF = 7


@dataclass(frozen=True, slots=True)
class MachineSpeed:
    """The best of a few tries.

    Attributes:
        bytes_per_s: through memory in a large copy, read and written together.
        flops_per_s: of a large product, by precision.
    """

    bytes_per_s: float
    flops_per_s: dict[str, float]


def measure_machine(precisions: set[str], device: torch.device) -> MachineSpeed:
    """Time a copy, and one product in each precision, with the threads that PyTorch has now (a second or two)."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    bytes_per_s = 2 * COPIED / _quickest(lambda: target.copy_(source), device)
    flops_per_s = {}
    for precision in sorted(precisions):
        x = torch.randn(ROWS, INNER, device=device, dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
        product = make_product(torch.randn(OUTER, INNER, device=device), None, precision, x.dtype)
        if isinstance(product, Fp8):
            product.calibrate(LARGEST)
        flops_per_s[precision] = 2 * ROWS * INNER * OUTER / _quickest(lambda p=product, x=x: p(x), device)
    return MachineSpeed(bytes_per_s, flops_per_s)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _quickest(work: Callable[[], object], device: torch.device) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(BEST_OF):
            synchronise(device)
            began = time.perf_counter()
            work()
            synchronise(device)
            times.append(time.perf_counter() - began)
    return min(times)
