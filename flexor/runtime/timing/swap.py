"""What adapters cost an engine: to carry one, and to swap it while chunks are computed. Knows no server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.pi05.config import Pi05Config
from flexor.pi05.lora import SLOTS, random_adapter
from flexor.pi05.lora_targets import Pairs
from flexor.runtime.adapters.adapter_slots import AdapterSlots, Carried

RANK, SIZE = 8, 0.1  # of the adapters
SLOT = 1
WARM_UP = 3
LOOK_EVERY_S = 0.0005  # for a slot that nothing computes with
Told = Callable[[str, int, int], None]
Adapter = Mapping[str, NDArray[np.float32]]


class Carrier(Protocol):
    """An engine with one question to it."""

    @property
    def captures(self) -> int:
        """See Engine."""
        ...

    def load_slot(self, slot: int, tensors: Adapter | None) -> None:
        """See Engine."""
        ...

    def chunk(self, slot: int) -> NDArray[np.float32]:
        """encode and denoise: the same numbers each time while a slot keeps its weights."""
        ...


def measure_swap(
    carrier: Carrier, cold: Callable[[], Carrier], config: Pi05Config, pairs: Pairs, n: int, told: Told
) -> dict[str, Any]:
    """Swap a random adapter for another n times, alone and beside a thread that loads, and compare.

    Args:
        carrier: what is measured.
        cold: opens another one of the same weights, which has never held an adapter.
        config: of its model.
        pairs: what the adapters change.
        told: hears of each piece of work: what, done, of how many.

    Returns:
        engine_ms: how much longer the first chunk after a swap takes than the one after it, the quickest of n each (a
        swap is far less than what neighbours add to a chunk); load_ms: of loading a slot, median; carry_ratio: a chunk
        with an adapter to one without, in turns, medians; base_p50_ms, carry_p50_ms; lost: chunks, while a thread
        swaps, that are not wholly of their adapter; chunks: of these, all; recaptures: CUDA graphs recorded since the
        first chunk; max_diff_cold: largest difference to an engine that loaded the adapter first of all; n.
    """
    adapters = [random_adapter(config, RANK, SIZE, seed, pairs) for seed in (0, 1)]
    for _ in range(WARM_UP):
        for slot in range(SLOTS):
            carrier.chunk(slot)
    captures = carrier.captures
    known = []
    for adapter in adapters:
        carrier.load_slot(SLOT, adapter)
        known.append(carrier.chunk(SLOT))
    cost = measure_cost(carrier, adapters, n, told)
    chunks, lost = _swap_beside(carrier, adapters, known, n, told)
    told("comparing with a cold load", 0, len(adapters))
    difference = 0.0
    for adapter, expected in zip(adapters, known, strict=True):
        fresh = cold()
        fresh.load_slot(SLOT, adapter)
        carrier.load_slot(SLOT, adapter)
        found = fresh.chunk(SLOT)
        difference = max(difference, *(float(np.abs(found - one).max()) for one in (expected, carrier.chunk(SLOT))))
    return {
        **cost,
        "lost": lost,
        "chunks": chunks,
        "recaptures": carrier.captures - captures,
        "max_diff_cold": difference,
        "n": n,
    }


def measure_cost(carrier: Carrier, adapters: Sequence[Adapter], n: int, told: Told) -> dict[str, float]:
    """What swapping and carrying adapters costs an engine that is warm.

    Args:
        adapters: two, which take turns.

    Returns:
        engine_ms, load_ms, carry_ratio, base_p50_ms, carry_p50_ms of measure_swap.
    """
    first_ms, second_ms, load_ms = _swap(carrier, adapters, n, told)
    base_ms, carry_ms = _carry(carrier, n, told)
    base, carry = float(np.median(base_ms)), float(np.median(carry_ms))
    return {
        "engine_ms": min(first_ms) - min(second_ms),
        "load_ms": float(np.median(load_ms)),
        "carry_ratio": carry / base,
        "base_p50_ms": base,
        "carry_p50_ms": carry,
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _swap(
    carrier: Carrier, adapters: Sequence[Adapter], n: int, told: Told
) -> tuple[list[float], list[float], list[float]]:
    """Per swap, ms: the first chunk, the second, and before them to load."""
    first_ms, second_ms, load_ms = [], [], []
    for turn in range(n):
        load_ms.append(_timed(lambda turn=turn: carrier.load_slot(SLOT, adapters[turn % 2])))
        for times in (first_ms, second_ms):
            times.append(_timed(lambda: carrier.chunk(SLOT)))
        told("swapping", turn + 1, n)
    return first_ms, second_ms, load_ms


def _carry(carrier: Carrier, n: int, told: Told) -> tuple[list[float], list[float]]:
    """Chunks without and with an adapter, in turns of changing order, ms."""
    times: dict[int, list[float]] = {0: [], SLOT: []}
    for turn in range(n):
        for slot in (0, SLOT) if turn % 2 else (SLOT, 0):
            times[slot].append(_timed(lambda slot=slot: carrier.chunk(slot)))
        told("carrying", turn + 1, n)
    return times[0], times[SLOT]


def _swap_beside(
    carrier: Carrier, adapters: Sequence[Adapter], known: list[NDArray[np.float32]], n: int, told: Told
) -> tuple[int, int]:
    """Chunks while another thread swaps n times as a server does, and how many are not those of their adapter."""
    slots, over = AdapterSlots(SLOTS), threading.Event()

    def load() -> None:
        for turn in range(n):
            while (slot := slots.free()) is None:
                if over.wait(LOOK_EVERY_S):
                    return
            carrier.load_slot(slot, adapters[turn % 2])
            slots.activate(Carried(slot, str(turn % 2)), at_once=True)
            told("swapping beside chunks", turn + 1, n)

    carrier.load_slot(SLOT, adapters[1])
    slots.activate(Carried(SLOT, "1"), at_once=True)
    chunks = lost = 0
    with ThreadPoolExecutor(1, "swaps") as pool:
        loading = pool.submit(load)
        try:
            while not loading.done():
                carried = slots.take("a robot")
                found = carrier.chunk(carried.slot)
                chunks += 1
                lost += not np.array_equal(found, known[int(carried.adapter)])
                slots.leave()
        finally:
            over.set()  # a chunk that fails leaves its slot taken: nobody would ever free one again
    loading.result()  # what ended it early is no measurement
    return chunks, lost
