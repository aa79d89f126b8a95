"""Loader: from an adapter's name to weights in a slot, through every check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_slots import AdapterSlots, Carried
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.verification import VerifiedAdapter, Verifier


class Carrier(Protocol):
    """What carries adapters: an engine, or the policy that has one."""

    def load_slot(self, slot: int, tensors: Mapping[str, NDArray[np.float32]] | None) -> None:
        """See `flexor.runtime.inference.engine.Engine`."""
        ...


class Loader:
    """Loads the adapters of one directory into one engine.

    Args:
        store: their directory.
        verifier: what they have to fit.
        carrier: what they are loaded into.
        slots: which of its slots are free.
    """

    def __init__(self, store: AdapterStore, verifier: Verifier, carrier: Carrier, slots: AdapterSlots) -> None:
        self._store, self._verifier, self._carrier, self._slots = store, verifier, carrier, slots

    def verify(self, name: str) -> VerifiedAdapter:
        """Read and check an adapter, also beside what is remembered of it.

        Raises:
            AdapterError: any reason that concerns it.
        """
        verified = self._verifier.verify(self._store.path(name))
        known = self._store.record(name)
        if known is not None and known.sha256 not in (None, verified.folder.sha256):
            raise AdapterError("changed", f"{name} is not what it was when it was taken; write each adapter once")
        why = self._store.state.blacklist.get(verified.hashes["model_sha256"])
        if why is not None:
            raise AdapterError("blacklisted", f"the weights of {name} may not come back: {why}; train another one")
        return verified

    def load(self, verified: VerifiedAdapter) -> Carried | None:
        """Load a verified adapter into a free slot; None while there is none.

        Raises:
            EngineError: the engine does not take it.
        """
        slot = self._slots.free()
        if slot is None:
            return None
        self._carrier.load_slot(slot, verified.packed)
        return Carried(slot, verified.folder.id)

    def loaded(self, verified: VerifiedAdapter) -> Carried:
        """load() that does not wait for a slot.

        Raises:
            AdapterError: busy: no slot is free.
            EngineError: the engine does not take it.
        """
        carried = self.load(verified)
        if carried is None:
            name = verified.folder.id
            raise AdapterError(
                "busy", f"no slot is free for {name}: open episodes keep theirs; try again when they end"
            )
        return carried
