"""Adapters of the micro bundle: small random factors, written as the learner writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapted_policy import AdaptedPolicy
from random_adapters import ALPHA, RANK, draw_factors

from flexor.runtime.adapters.adapter_schema import AdapterSchema
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import AdapterSlots
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.base_weights import BaseWeights
from flexor.runtime.adapters.lifecycle import Lifecycle
from flexor.runtime.adapters.verification import Verifier
from flexor.runtime.inference.bundle import Bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


@pytest.fixture
def write(micro_bundle: Bundle, root: Path) -> Callable[..., Path]:
    """write(seed=0, size=0.05, rank=4, **more of write_adapter) -> the folder."""

    def make(seed: int = 0, size: float = 0.05, rank: int = RANK, **more: Any) -> Path:
        factors = draw_factors(micro_bundle.model_config, seed, size, rank)
        return write_adapter(root, factors, **{"bundle": micro_bundle, "rank": rank, "alpha": ALPHA, **more})

    return make


@pytest.fixture(scope="session")
def verifier(micro_bundle: Bundle) -> Verifier:
    """max_change is large: pi05-micro's random weights are of another size than trained ones."""
    schema = AdapterSchema.of(micro_bundle.model_config, RANK, ALPHA)
    return Verifier(micro_bundle, schema, BaseWeights(micro_bundle), max_change=5.0)


@pytest.fixture
def open_(root: Path, verifier: Verifier) -> Iterator[Callable[..., Lifecycle]]:
    """open_(**settings) -> Lifecycle, restored; the one before it is closed, as a restart would."""
    opened: list[Lifecycle] = []

    def make(**settings: Any) -> Lifecycle:
        for earlier in opened:
            earlier.store.close()
        chosen = {"dir": root, "rank": RANK, "alpha": ALPHA, "shadow_requests": 0, "canary_episodes": 0, **settings}
        slots = AdapterSlots(AdaptedPolicy.slots)
        life = Lifecycle(AdapterStore(root), verifier, AdaptedPolicy(), slots, AdapterSettings(**chosen))
        opened.append(life)
        life.restore()
        return life

    yield make
    for life in opened:
        life.store.close()
