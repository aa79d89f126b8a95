"""What happens to a Lifecycle without sockets: episodes, chunks that were measured, and a disk that refuses."""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flexor.runtime.adapters.lifecycle import Lifecycle
from flexor.runtime.adapters.store_state import StoreState


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond ten bytes; Python ignores the signal, so that writing fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def failing_write(number: int) -> Iterator[None]:
    """The disk is full for one write of a state alone, the first being 1."""
    written, write = 0, StoreState.write

    def refuse(state: StoreState, root: Path) -> None:
        nonlocal written
        written += 1
        if written == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(state, root)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreState, "write", refuse)
        yield


def stands(life: Lifecycle, name: str) -> tuple[str, str | None]:
    """Its state, and the reason for it."""
    record = life.store.record(name)
    assert record is not None
    return record.state, record.reason


def play(life: Lifecycle, success: bool, session: str = "s") -> str:
    """One episode; what it played."""
    carried = life.slots.bind(session, ("stack", None)).carried
    released = life.slots.release(session, success)
    assert released is not None
    life.episode_ended(carried.adapter, success, released[1])
    return carried.adapter


def fill(life: Lifecycle, adapter: str, ms: float, bits: float) -> None:
    """60 chunks of the active adapter, or of the one before it, that took so long and were so uncertain."""
    carried = life.slots.active if life.slots.active.adapter == adapter else life.slots.previous
    rng = np.random.default_rng(carried.slot)
    life.slots.seen[carried.slot].policy_ms.extend(ms + rng.uniform(0, 1, 60))
    life.slots.seen[carried.slot].bits.extend(bits + rng.uniform(0, 0.2, 60))
