"""CandidateAdapter: what is being tried: verified, staged, shadowed, in its canary, then promoted or rejected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.adapters.active_adapter import ActiveAdapter, trouble_of
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import AdapterSlots
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.backlog import Backlog
from flexor.runtime.adapters.canary import Verdict
from flexor.runtime.adapters.loader import Loader
from flexor.runtime.adapters.shadow import Shadow
from flexor.runtime.adapters.trial import Trial
from flexor.runtime.adapters.verification import VerifiedAdapter


class CandidateAdapter:
    """The one candidate of a server, if there is one. One thread uses it.

    Args:
        store: remembers who it is and how far it came.
        loader: loads it.
        slots: let episodes play it.
        settings: of its trial.
        active: makes room for it.
        backlog: takes what the disk refuses.

    Attributes:
        shadow: how its answers compare so far, while requests are computed with it, too.
    """

    def __init__(
        self,
        store: AdapterStore,
        loader: Loader,
        slots: AdapterSlots,
        settings: AdapterSettings,
        active: ActiveAdapter,
        backlog: Backlog,
    ) -> None:
        self._store, self._loader, self._slots, self._settings = store, loader, slots, settings
        self._active, self._backlog = active, backlog
        self._verified: VerifiedAdapter | None = None
        self.shadow: Shadow | None = None

    @property
    def name(self) -> str | None:
        """Who it is, as the disk knows it."""
        return self._store.state.candidate

    def verify(self, name: str) -> None:
        """Begin its trial, as far as there is a slot for it.

        Raises:
            AdapterError: it is refused, which is noted.
            OSError: the disk refuses; go_on() later.
        """
        try:
            self._verified = self._loader.verify(name)
        except AdapterError as error:
            self.reject(name, error.reason, str(error))
            raise
        hashes, version = self._verified.hashes, self._verified.folder.manifest.version

        def note() -> None:
            state = self._store.state
            seen = {"seen": max(state.seen, version)}
            self._store.note(name, "VERIFIED", seen, parent=state.active, **hashes)

        self._backlog.do(note)
        self.go_on()

    def go_on(self) -> None:
        """Load what is verified if it is in no slot yet and there is one, and let requests or episodes play it.

        Raises:
            AdapterError: the engine does not take it, which is noted.
            OSError: the disk refuses; go_on() later.
        """
        if self._verified is None or self._slots.candidate is not None:
            return
        name, requests = self._verified.folder.id, self._settings.shadow_requests
        try:
            carried = self._loader.load(self._verified)
        except FlexorError as error:
            self.reject(name, "wrong_schema", str(error))
            raise AdapterError("wrong_schema", str(error)) from error
        if carried is None:
            return
        self._store.note(name, "STAGED")
        if requests:
            self.shadow = Shadow(requests, self._settings.max_difference)
            self._store.note(name, "SHADOW")
        self._slots.stage(carried, requests > 0)
        if not requests:
            self._backlog.do(lambda: self._begin_canary(name))

    def shadowed(self, name: str, played: NDArray[np.float32], shadow: NDArray[np.float32]) -> None:
        """A request was computed with it, too: normalised actions [H, A] of both."""
        if self.shadow is None or name != self.name:
            return
        wrong = self.shadow.observe(played, shadow)
        if wrong is not None:
            self.reject(name, "shadow", wrong, True)
        elif self.shadow.passed:
            self.shadow = None
            self._backlog.do(lambda: self._begin_canary(name))

    def decide(self, name: str, verdict: Verdict) -> None:
        """Its trial is over. Nothing where it is no candidate any more, or the verdict was of another trial.

        Raises:
            AdapterError: its folder changed meanwhile, for which it is rejected.
            OSError: the disk refuses; nothing has changed.
        """
        trial = self._slots.trial_state()
        if not self._is_tried(name) or trial is None or trial["verdict"] != verdict:
            return
        if verdict == "promote":
            self.promote(self._settings.swap == "chunk", f"it was shown to be as good as its parent: {trial}")
        elif verdict == "reject":
            self.reject(name, "canary", f"its parent was shown to be better: {trial}", True)
        else:
            self.reject(name, "no_evidence", f"its parent stays: {trial}")

    def promote(self, at_once: bool, told: str) -> None:
        """Make it the active one.

        Raises:
            AdapterError: its folder changed meanwhile, for which it is rejected.
            OSError: the disk refuses; nothing has changed.
        """
        carried, verified = self._slots.candidate, self._verified
        assert carried is not None and verified is not None
        try:
            verified.folder.check_unchanged(self._store.root / carried.adapter)
        except AdapterError as error:
            self.reject(carried.adapter, error.reason, str(error))
            raise
        self._active.serve(carried, at_once, told)
        self._verified = self.shadow = None
        self._store.prune()

    def reject(self, name: str, reason: str, told: str, for_ever: bool = False) -> None:
        """End its trial, whatever the disk says.

        Args:
            for_ever: put its weights on the blacklist.

        Raises:
            OSError: the disk refuses to note it; the backlog has that.
        """
        self._slots.end_trial()
        self._verified = self.shadow = None

        def note() -> None:
            if self.name == name:  # else it was noted already, with an earlier reason
                blacklist = self._store.blacklisted(name, reason) if for_ever else {}
                self._store.note(name, "REJECTED", {"candidate": None, **blacklist}, reason=reason, told=told)
            self._store.prune()

        self._backlog.do(note)

    def watch(self) -> None:
        """Reject it when it is slower or more uncertain than the active one.

        Raises:
            OSError: as reject().
        """
        carried = self._slots.candidate
        found = carried and trouble_of(self._slots, carried, self._slots.active, self._settings)
        if carried is not None and found is not None:
            self.reject(carried.adapter, *found, True)

    def _is_tried(self, name: str) -> bool:
        """Whether it is the candidate still, and in its slot."""
        carried = self._slots.candidate
        return carried is not None and carried.adapter == name == self.name

    def _begin_canary(self, name: str) -> None:
        if not self._is_tried(name):
            return
        if not self._settings.canary_episodes:
            self.promote(self._settings.swap == "chunk", "no canary is set")
            return
        self._store.note(name, "CANARY")
        self._slots.begin_trial(Trial(self._settings.canary_episodes))
