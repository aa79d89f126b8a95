"""Lifecycle: what becomes of a pushed adapter: RECEIVED, VERIFIED, STAGED, SHADOW, CANARY, then ACTIVE or REJECTED."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.adapters.active_adapter import ActiveAdapter
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_listing import listing
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import AdapterSlots
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.backlog import Backlog
from flexor.runtime.adapters.canary import Verdict
from flexor.runtime.adapters.candidate_adapter import CandidateAdapter
from flexor.runtime.adapters.loader import Carrier, Loader
from flexor.runtime.adapters.manifest import BASE, split_id
from flexor.runtime.adapters.store_state import Record
from flexor.runtime.adapters.verification import Verifier

logger = logging.getLogger(__name__)


class Lifecycle:
    """The adapters of one server. One thread uses it.

    What does harm is taken out of its slot first and noted then; what the disk refuses to note waits for a tick.

    Args:
        store: their directory.
        verifier: what they have to fit.
        carrier: what they are loaded into.
        slots: who computes with which.
        settings: of the trial.
    """

    def __init__(
        self,
        store: AdapterStore,
        verifier: Verifier,
        carrier: Carrier,
        slots: AdapterSlots,
        settings: AdapterSettings,
    ) -> None:
        self.store, self.slots, self.settings = store, slots, settings
        loader = Loader(store, verifier, carrier, slots)
        self._backlog = Backlog()
        self._active = ActiveAdapter(store, loader, slots, settings)
        self._candidate = CandidateAdapter(store, loader, slots, settings, self._active, self._backlog)

    def restore(self) -> None:
        """After a start: serve what was active, or the base, and take a trial up again from its beginning.

        A disk that refuses keeps nothing from being served: a tick goes on where it did.
        """
        self._backlog.add(self._active.restore())
        candidate = self._candidate.name
        try:
            if candidate is not None:
                self._candidate.verify(candidate)
            self._backlog.work()
        except AdapterError:
            return  # noted, logged and announced
        except OSError as error:
            logger.error("adapters in %s: %s; what could not be noted waits for the disk", self.store.root, error)

    def push(self, name: str) -> dict[str, Any]:
        """Take a new adapter for a trial, and tell how far it came.

        Raises:
            AdapterError: any reason; where it concerns the adapter itself, it is noted as REJECTED.
            OSError: the disk refuses.
        """
        self._settle()
        state = self.store.state
        self.store.path(name)
        if state.candidate is not None:
            raise AdapterError(
                "busy", f"{state.candidate} is being tried; wait for it, or take it back: flexor adapter rollback"
            )
        version, _ = split_id(name) or (0, "")
        if version <= state.seen:
            known = self.store.record(name)
            stands = f"it is {known.state}" if known else "it is not remembered"
            raise AdapterError(
                "replayed",
                f"{name} is not newer than version {state.seen}, which was seen ({stands}); write it with a later"
                " version, or order it: flexor adapter swap",
            )
        self.store.note(name, "RECEIVED", {"candidate": name}, parent=state.active)
        self._candidate.verify(name)
        return self.told(name)

    def swap(self, name: str, at: str | None = None) -> dict[str, Any]:
        """Serve an adapter, or `base`, by order: verified, but not tried.

        Args:
            at: "episode" or "chunk"; None as the settings have it.

        Raises:
            AdapterError, EngineError, OSError: see ActiveAdapter.swap.
        """
        self._settle()
        at_once = (at or self.settings.swap) == "chunk"
        candidate = self.slots.candidate
        if candidate is not None and name == candidate.adapter:
            self._candidate.promote(at_once, "it was ordered")
        elif self._candidate.name is not None:
            raise AdapterError(
                "busy", f"{self._candidate.name} is being tried; end its trial first: flexor adapter rollback"
            )
        elif name != self.slots.active.adapter:
            self._active.swap(name, at_once)
        return self.told(name)

    def rollback(self) -> dict[str, Any]:
        """By order: end the trial, or without one return to what was active before, from the next chunk on.

        Raises:
            AdapterError: unknown: the base is active.
            OSError: the disk refuses to note it; it is done all the same.
        """
        candidate, name = self._candidate.name, self.store.state.active
        if candidate is not None:
            self._candidate.reject(candidate, "order", "its trial was ended by order")
            return self.told(candidate)
        if name == BASE:
            raise AdapterError("unknown", "the base is active, and nothing was before it; push an adapter first")
        # By the name that the disk knows: repeated because the disk refused, the order takes nothing else back.
        self._roll_back(name, "order", "it was taken back by order", False)
        return self.told(name)

    def remove(self, name: str) -> dict[str, Any]:
        """Delete an adapter from disk.

        Raises:
            AdapterError: unknown, or in_use.
            OSError: the disk refuses.
        """
        self._settle()
        self.store.remove(name)
        if name == self.slots.previous.adapter:
            self.slots.forget_previous()
        return {"adapter": name, "state": "REMOVED", "active": self.store.state.active}

    def shadowed(self, name: str, played: NDArray[np.float32], shadow: NDArray[np.float32]) -> None:
        """A request was computed with the candidate, too: normalised actions [H, A] of both."""
        self._candidate.shadowed(name, played, shadow)

    def episode_ended(self, name: str, success: bool | None, verdict: Verdict | None) -> None:
        """An episode that was bound to an adapter is over, and perhaps the trial."""
        candidate = self._candidate.name
        if verdict is not None and candidate is not None:
            self._backlog.add(lambda: self._candidate.decide(candidate, verdict))  # first: the disk may refuse to count
        if success is not None:
            self.store.count(name, success)
        self._backlog.work()

    def failed(self, name: str, told: str) -> None:
        """An adapter gave what is not finite; the engine's thread has stopped computing with it already."""
        if name == self._candidate.name:
            self._candidate.reject(name, "not_finite", told, True)
        elif name == self._active.name:
            self._roll_back(name, "not_finite", told, True)
        else:
            self.store.log("adapter.failed", name, told=told)

    def tick(self) -> None:
        """From time to time: what waited for a slot or for the disk, and whether the adapters do well.

        Raises:
            AdapterError: a candidate is refused, which is noted.
            OSError: the disk refuses; what does harm is taken back all the same.
        """
        try:
            self._backlog.work()
            self._candidate.go_on()
        finally:
            self._watch()

    def told(self, name: str) -> dict[str, Any]:
        """How an adapter stands."""
        record = self.store.record(name) or Record(id=name, state="ACTIVE", at="")
        told = {"state": record.state, "reason": record.reason, "told": record.told}
        return {"adapter": name, **told, "active": self.store.state.active}

    def listing(self) -> dict[str, Any]:
        """How everything stands; plain values."""
        shadow = self._candidate.shadow
        return {
            **listing(self.store.root, self.store.state),
            "shadow": shadow and shadow.to_dict(),
            "trial": self.slots.trial_state(),
            "bound": self.slots.bound(),
        }

    def _watch(self) -> None:
        active, found = self._active.name, self._active.trouble()
        if found is not None:
            self._roll_back(active, *found, True)
        else:
            self._candidate.watch()

    def _roll_back(self, name: str, reason: str, told: str, for_ever: bool) -> None:
        candidate = self._candidate.name
        try:
            if candidate is not None:
                why = f"its parent was taken back during its trial: {told}"
                self._candidate.reject(candidate, "no_evidence", why)
        finally:  # what does harm leaves its slot, whatever the disk says to the candidate's end
            self._backlog.do(self._active.roll_back(name, reason, told, for_ever))

    def _settle(self) -> None:
        """Before an order, what waits for the disk: else the order would build on what does not stand any more."""
        with contextlib.suppress(AdapterError):  # of another adapter: noted, logged and announced
            self._backlog.work()
