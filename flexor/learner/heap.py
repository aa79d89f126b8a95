"""The heap of a training process: memory that was freed is kept for the next step.

A training step frees and asks for the same hundreds of megabytes again and again. glibc gives large blocks back to the
kernel at once, and each new one costs a page fault every 4 kB: a tenth of a step of pi05-nano.
"""

from __future__ import annotations

import ctypes

# <malloc.h>: mallopt's parameters, and the largest value that the first one takes on 64 bits
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
LARGEST_MMAP_THRESHOLD = 32 << 20
KEPT = 2**31 - 1  # bytes that may lie unused at the heap's end before it shrinks
GROWN_BY = 256 << 20  # bytes


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, where its C library is glibc; returns whether it does now."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # the heaps of other threads are given back whatever is said: all have one
    chosen = ((ARENA_MAX, 1), (MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD), (TRIM_THRESHOLD, KEPT), (TOP_PAD, GROWN_BY))
    return all([mallopt(parameter, value) == 1 for parameter, value in chosen])
