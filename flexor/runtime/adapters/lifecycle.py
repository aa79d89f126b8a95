"""Lifecycle: what becomes of a pushed adapter: RECEIVED, VERIFIED, STAGED, SHADOW, CANARY, then ACTIVE or REJECTED."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.adapters.active_adapter import ActiveAdapter, trouble_of
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_listing import listing
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import AdapterSlots
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.canary import Verdict
from flexor.runtime.adapters.loader import Carrier, Loader
from flexor.runtime.adapters.manifest import BASE, split_id
from flexor.runtime.adapters.peft_files import MODEL
from flexor.runtime.adapters.shadow import Shadow
from flexor.runtime.adapters.store_state import Record
from flexor.runtime.adapters.trial import Trial
from flexor.runtime.adapters.verification import VerifiedAdapter, Verifier


class Lifecycle:
    """The adapters of one server. One thread uses it.

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
        self._loader = Loader(store, verifier, carrier, slots)
        self._active = ActiveAdapter(store, self._loader, slots, settings)
        self._verified: VerifiedAdapter | None = None  # the candidate's
        self._shadow: Shadow | None = None
        self._undone: Callable[[], object] | None = None  # what the disk refused to note, to be tried again

    def restore(self) -> None:
        """After a start: serve what was active, or the base, and take a trial up again from its beginning.

        Raises:
            OSError: the disk refuses.
        """
        self._active.restore()
        candidate = self.store.state.candidate
        if candidate is not None:
            try:
                self._try(candidate)
            except AdapterError:
                return  # noted, logged and announced

    def push(self, name: str) -> dict[str, Any]:
        """Take a new adapter for a trial, and tell how far it came.

        Raises:
            AdapterError: any reason; where it concerns the adapter itself, it is noted as REJECTED.
            OSError: the disk refuses.
        """
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
        self._try(name)
        return self.told(name)

    def swap(self, name: str, at: str | None = None) -> dict[str, Any]:
        """Serve an adapter, or `base`, by order: verified, but not tried.

        Args:
            at: "episode" or "chunk"; None as the settings have it.

        Raises:
            AdapterError, EngineError, OSError: see ActiveAdapter.swap.
        """
        at_once = (at or self.settings.swap) == "chunk"
        candidate = self.slots.candidate
        if candidate is not None and name == candidate.adapter:
            self._promote(at_once, "it was ordered")
        elif self.store.state.candidate is not None:
            raise AdapterError(
                "busy", f"{self.store.state.candidate} is being tried; end its trial first: flexor adapter rollback"
            )
        elif name != self.slots.active.adapter:
            self._active.swap(name, at_once)
        return self.told(name)

    def rollback(self) -> dict[str, Any]:
        """By order: end the trial, or without one return to what was active before, from the next chunk on.

        Raises:
            AdapterError: unknown: the base is active.
            OSError: the disk refuses to note it.
        """
        candidate, name = self.store.state.candidate, self.store.state.active
        if candidate is not None:
            self._reject(candidate, "order", "its trial was ended by order")
            return self.told(candidate)
        if name == BASE:
            raise AdapterError("unknown", "the base is active, and nothing was before it; push an adapter first")
        self._roll_back("order", "it was taken back by order", False)
        return self.told(name)

    def remove(self, name: str) -> dict[str, Any]:
        """Delete an adapter from disk.

        Raises:
            AdapterError: unknown, or in_use.
            OSError: the disk refuses.
        """
        self.store.remove(name)
        if name == self.slots.previous.adapter:
            self.slots.forget_previous()
        return {"adapter": name, "state": "REMOVED", "active": self.store.state.active}

    def shadowed(self, name: str, played: NDArray[np.float32], shadow: NDArray[np.float32]) -> None:
        """A request was computed with the candidate, too: normalised actions [H, A] of both."""
        if self._shadow is None or name != self.store.state.candidate:
            return
        wrong = self._shadow.observe(played, shadow)
        if wrong is not None:
            self._reject(name, "shadow", wrong, True)
        elif self._shadow.passed:
            self._surely(lambda: self._begin_canary(name))

    def episode_ended(self, name: str, success: bool | None, verdict: Verdict | None) -> None:
        """An episode that was bound to an adapter is over, and perhaps the trial."""
        if verdict is not None and self.store.state.candidate is not None:
            self._undone = lambda: self._decide(verdict)
        if success is not None:
            self.store.count(name, success)
        if verdict is not None:
            self._catch_up()

    def failed(self, name: str, told: str) -> None:
        """An adapter gave what is not finite; the engine's thread has stopped computing with it already."""
        if name == self.store.state.candidate:
            self._reject(name, "not_finite", told, True)
        elif name == self.store.state.active:
            self._roll_back("not_finite", told, True)
        else:
            self.store.log("adapter.failed", name, told=told)

    def tick(self) -> None:
        """From time to time: what waited for a slot or for the disk, and whether the adapters do well."""
        self._catch_up()
        candidate = self.slots.candidate
        if self._verified is not None and candidate is None:
            self._stage()
        found = self._active.trouble()
        if found is not None:
            self._roll_back(*found, True)
        elif candidate is not None:
            found = trouble_of(self.slots, candidate, self.slots.active, self.settings)
            if found is not None:
                self._reject(candidate.adapter, *found, True)

    def told(self, name: str) -> dict[str, Any]:
        """How an adapter stands."""
        record = self.store.record(name) or Record(id=name, state="ACTIVE", at="")
        told = {"state": record.state, "reason": record.reason, "told": record.told}
        return {"adapter": name, **told, "active": self.store.state.active}

    def listing(self) -> dict[str, Any]:
        """How everything stands; plain values."""
        return {
            **listing(self.store.root, self.store.state),
            "shadow": self._shadow and self._shadow.to_dict(),
            "trial": self.slots.trial_state(),
            "bound": self.slots.bound(),
        }

    def _try(self, name: str) -> None:
        try:
            self._verified = self._loader.verify(name)
        except AdapterError as error:
            self._reject(name, error.reason, str(error))
            raise
        state, folder = self.store.state, self._verified.folder
        hashes = {"sha256": folder.sha256, "model_sha256": folder.manifest.files[MODEL].sha256}
        seen = max(state.seen, folder.manifest.version)
        self._surely(lambda: self.store.note(name, "VERIFIED", {"seen": seen}, parent=state.active, **hashes))
        self._stage()

    def _stage(self) -> None:
        """Load the candidate if there is a slot for it, and begin its trial."""
        assert self._verified is not None
        name, requests = self._verified.folder.id, self.settings.shadow_requests
        try:
            carried = self._loader.load(self._verified)
        except FlexorError as error:
            self._reject(name, "wrong_schema", str(error))
            raise AdapterError("wrong_schema", str(error)) from error
        if carried is None:
            return
        self.store.note(name, "STAGED")
        if requests:
            self._shadow = Shadow(requests, self.settings.max_difference)
            self.store.note(name, "SHADOW")
        self.slots.stage(carried, requests > 0)
        if not requests:
            self._surely(lambda: self._begin_canary(name))

    def _begin_canary(self, name: str) -> None:
        self._shadow = None
        if not self.settings.canary_episodes:
            self._promote(self.settings.swap == "chunk", "no canary is set")
            return
        self.store.note(name, "CANARY")
        self.slots.begin_trial(Trial(self.settings.canary_episodes))

    def _decide(self, verdict: Verdict) -> None:
        name, trial = self.store.state.candidate, self.slots.trial_state()
        if name is None:
            return
        if verdict == "promote":
            self._promote(self.settings.swap == "chunk", f"it was shown to be as good as its parent: {trial}")
        elif verdict == "reject":
            self._reject(name, "canary", f"its parent was shown to be better: {trial}", True)
        else:
            self._reject(name, "no_evidence", f"its parent stays: {trial}")

    def _promote(self, at_once: bool, told: str) -> None:
        carried, verified = self.slots.candidate, self._verified
        assert carried is not None and verified is not None
        try:
            verified.folder.check_unchanged(self.store.root / carried.adapter)
        except AdapterError as error:
            self._reject(carried.adapter, error.reason, str(error))
            raise
        self._active.serve(carried, at_once, told)
        self._verified = self._shadow = None
        self.store.prune()

    def _reject(self, name: str, reason: str, told: str, for_ever: bool = False) -> None:
        self.slots.end_trial()
        self._verified = self._shadow = None
        pointers = {"candidate": None, **(self.store.blacklisted(name, reason) if for_ever else {})}
        self._surely(lambda: self.store.note(name, "REJECTED", pointers, reason=reason, told=told))
        self.store.prune()

    def _roll_back(self, reason: str, told: str, for_ever: bool) -> None:
        if self.store.state.candidate is not None:
            self._reject(
                self.store.state.candidate, "no_evidence", f"its parent was taken back during its trial: {told}"
            )
        self._surely(lambda: self._active.roll_back(reason, told, for_ever))
        self.store.prune()

    def _surely(self, action: Callable[[], object]) -> None:
        """Do it now or, if the disk refuses, with the next tick."""
        self._undone = action
        self._catch_up()

    def _catch_up(self) -> None:
        """Do what is still to be done; a disk that refuses leaves it for the next time."""
        undone = self._undone
        if undone is not None:
            undone()
            if self._undone is undone:
                self._undone = None
