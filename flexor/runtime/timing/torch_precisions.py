"""What each precision costs on this machine: products of given sizes, and calls of a bundle, all of them in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from flexor.pi05.fp8 import Fp8, multiplies_e4m3
from flexor.pi05.products import DTYPES, PRECISIONS, Product, make_product
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError, open_engine
from flexor.runtime.inference.torch_limits import torch_device
from flexor.runtime.timing.latency import Percentiles
from flexor.runtime.timing.swap import Told
from flexor.runtime.timing.torch_machine import synchronise

WARM_UP = 2
Shape = tuple[int, int]
"""in, out of a product."""


def kinds(device: torch.device) -> list[str]:
    """Precisions that the device computes itself."""
    return [name for name in PRECISIONS if name != "fp8" or multiplies_e4m3(device)]


def time_products(shapes: Sequence[Shape], rows: Sequence[int], n: int, told: Told) -> list[dict[str, Any]]:
    """Time x W^T for x [rows, in], W [out, in], in every precision, n times each in turns.

    Args:
        told: hears of each piece of work: what, done, of how many.

    Returns:
        For each shape and number of rows: in, out, rows, and ms by precision, as `time_bundle`.
    """
    device = torch_device()
    generator = torch.Generator().manual_seed(0)
    found: list[dict[str, Any]] = []
    for inner, outer in shapes:
        weight = torch.randn(outer, inner, generator=generator).mul_(inner**-0.5).to(device)
        products = {kind: _product(weight, kind) for kind in kinds(device)}
        for count in rows:
            x = torch.randn(count, inner, generator=generator).to(device)
            calls = {kind: _call(product, x.to(DTYPES[kind])) for kind, product in products.items()}
            times = _in_turns(calls, n, device)
            found.append({"in": inner, "out": outer, "rows": count, "ms": {kind: _told(ms) for kind, ms in times}})
            told("timing products", len(found), len(shapes) * len(rows))
    return found


def time_bundle(bundle: Bundle, precisions: Sequence[str], threads: int, n: int, told: Told) -> dict[str, Any]:
    """Time whole calls of a bundle's engine (encode and denoise) on a blank observation, n each in turns.

    Returns:
        By precision, ms: p50, the quickest, and the least processor time, which neighbours on a busy machine lengthen
        less (of all threads together).

    Raises:
        EngineError, BundleError: as open_engine.
    """
    config = bundle.model_config
    size = config.vision.image_size
    images = np.zeros((len(bundle.cameras), 3, size, size), np.float32)
    noise = np.random.default_rng(0).standard_normal((1, config.horizon, config.action_dim), np.float32)
    tokens = np.ones(config.max_prompt_tokens, np.int64)
    calls: dict[str, Callable[[], object]] = {}
    for done, precision in enumerate(precisions):
        engine = open_engine(bundle, precision=precision, threads=threads, force=True)
        calls[engine.precision] = lambda engine=engine: engine.denoise(engine.encode(images, tokens), noise, None)
        told("opening engines", done + 1, len(precisions))
    return {name: _told(ms) for name, ms in _in_turns(calls, n, torch_device())}


def parse_shape(text: str) -> Shape:
    """INxOUT.

    Raises:
        EngineError: two whole numbers are not what it is.
    """
    inner, _, outer = text.partition("x")
    if not (inner.isdecimal() and outer.isdecimal() and int(inner) and int(outer)):
        raise EngineError(f"shape {text!r} is not INxOUT, e.g. 2048x16384")
    return int(inner), int(outer)


def _product(weight: torch.Tensor, kind: str) -> Product:
    product = make_product(weight, None, kind, DTYPES[kind])
    if isinstance(product, Fp8):
        product.calibrate(4.0)
    return product


def _call(product: Product, x: torch.Tensor) -> Callable[[], object]:
    return lambda: product(x)


def _told(ms: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall = [passed for passed, _ in ms]
    return {"p50": Percentiles.of(wall).p50_ms, "best": min(wall), "processor": min(used for _, used in ms)}


def _in_turns(
    calls: Mapping[str, Callable[[], object]], n: int, device: torch.device
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Milliseconds passed and milliseconds of the processor, n calls of each, in turns: a drift meets all of them."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    with torch.inference_mode():
        for turn in range(WARM_UP + n):
            for name, call in calls.items():
                synchronise(device)
                began, used = time.perf_counter(), time.process_time()
                call()
                synchronise(device)
                if turn >= WARM_UP:
                    passed = time.perf_counter() - began
                    times[name].append((1000 * passed, 1000 * (time.process_time() - used)))
    yield from times.items()
