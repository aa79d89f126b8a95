"""AdapterSlots: which slot carries which adapter, and which session computes with which; a table that threads share.

Slot 0 is the bundle's own for ever. One more is active, one holds what was active before, so that a rollback loads
nothing, one the candidate. A slot that an open episode is bound to, or that is computed with now, is not free.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from flexor.runtime.adapters.canary import Verdict
from flexor.runtime.adapters.manifest import BASE
from flexor.runtime.adapters.trial import Trial

WINDOW = 400  # chunks


@dataclass(frozen=True, slots=True)
class Carried:
    """An adapter in its slot."""

    slot: int
    adapter: str


@dataclass(frozen=True, slots=True)
class Binding:
    """What an open episode computes with; place: of a trial, the pair and whether it is the candidate's half."""

    carried: Carried
    trial: Trial | None = None
    place: tuple[int, bool] | None = None


@dataclass(slots=True)
class Seen:
    """Of one slot, the last chunks: milliseconds in the policy, and their uncertainty in bits."""

    policy_ms: deque[float]
    bits: deque[float]


OWN = Carried(0, BASE)


class AdapterSlots:
    """Each method takes microseconds."""

    def __init__(self, count: int) -> None:
        """`count`: slots of the engine, slot 0 among them."""
        self._lock = threading.Lock()
        self._count = count
        self._active = self._previous = OWN
        self._candidate: Carried | None = None
        self._shadowing = False
        self._trial: Trial | None = None
        self._bindings: dict[str, Binding] = {}
        self._computing: int | None = None
        self.seen = {slot: Seen(deque(maxlen=WINDOW), deque(maxlen=WINDOW)) for slot in range(count)}

    @property
    def active(self) -> Carried:
        """What a session without an open episode computes with, and a new episode outside a trial."""
        return self._active

    @property
    def previous(self) -> Carried:
        """What was active before."""
        return self._previous

    @property
    def candidate(self) -> Carried | None:
        """What is being tried."""
        return self._candidate

    # What the I/O thread calls.

    def bind(self, session: str, key: object) -> Binding:
        """Begin an episode: what it computes with; `key` is equal for episodes that begin alike."""
        with self._lock:
            place = self._trial.assign(key) if self._trial is not None else None
            if place is not None and place[1] and self._candidate is not None:
                binding = Binding(self._candidate, self._trial, place)
            else:
                binding = Binding(self._active, self._trial if place else None, place)
            self._bindings[session] = binding
            return binding

    def release(self, session: str, success: bool | None) -> tuple[Carried, Verdict | None] | None:
        """End a session's episode; what it computed with, and the verdict of the trial if that is over now.

        Args:
            success: None where nobody knows.
        """
        with self._lock:
            binding = self._bindings.pop(session, None)
            if binding is None:
                return None
            verdict = None
            if binding.trial is not None and binding.place is not None and binding.trial is self._trial:
                verdict = binding.trial.ended(*binding.place, success)
            return binding.carried, verdict

    # What the engine's thread calls.

    def take(self, session: str) -> Carried:
        """What to compute a session's chunk with; the slot keeps its weights until leave() or the next take()."""
        with self._lock:
            binding = self._bindings.get(session)
            carried = self._active if binding is None else binding.carried
            self._computing = carried.slot
            return carried

    def leave(self) -> None:
        """Nothing is computed now."""
        with self._lock:
            self._computing = None

    def to_shadow(self) -> Carried | None:
        """The candidate, while requests are to be computed with it, too."""
        return self._candidate if self._shadowing else None

    def quarantine(self, carried: Carried) -> Carried:
        """Let nothing compute with an adapter any more, from this moment on; what to compute with instead."""
        with self._lock:
            if carried.slot == self._active.slot:
                self._active = OWN if carried.slot == self._previous.slot else self._previous
                self._previous = OWN
            if self._candidate is not None and carried.slot == self._candidate.slot:
                self._end_trial()
            self._rebind(carried.slot)
            self._computing = self._active.slot
            return self._active

    # What the adapter thread calls.

    def free(self) -> int | None:
        """A slot that may be loaded; None while each is needed."""
        with self._lock:
            needed = {0, self._active.slot, self._previous.slot, self._computing}
            needed.update(binding.carried.slot for binding in self._bindings.values())
            if self._candidate is not None:
                needed.add(self._candidate.slot)
            return next((slot for slot in range(1, self._count) if slot not in needed), None)

    def stage(self, carried: Carried, shadow: bool) -> None:
        """A slot was loaded for a trial; `shadow`: requests are to be computed with it, too."""
        with self._lock:
            self._forget(carried.slot)
            self._candidate, self._shadowing = carried, shadow

    def begin_trial(self, trial: Trial) -> None:
        """From now on, episodes play candidate or parent as the trial says."""
        with self._lock:
            self._shadowing, self._trial = False, trial

    def end_trial(self) -> None:
        """The candidate is none any more; episodes that play it go on with the active one from their next chunk."""
        with self._lock:
            candidate = self._candidate
            self._end_trial()
            if candidate is not None and candidate.slot != self._active.slot:
                self._rebind(candidate.slot)

    def activate(self, carried: Carried, at_once: bool) -> None:
        """Make a loaded slot the active one.

        Args:
            at_once: open episodes compute with it from their next chunk; else they keep what they began with.
        """
        with self._lock:
            if self._candidate is not None and carried.slot == self._candidate.slot:
                self._end_trial()
            elif carried.slot not in (0, self._active.slot, self._previous.slot):
                self._forget(carried.slot)
            self._previous, self._active = self._active, carried
            if at_once:
                self._bindings = {session: Binding(carried) for session in self._bindings}

    def forget_previous(self) -> None:
        """What was active before is not to come back."""
        with self._lock:
            self._previous = OWN

    def trial_state(self) -> dict[str, Any] | None:
        """How the trial stands."""
        with self._lock:
            return None if self._trial is None else self._trial.to_dict()

    def bound(self) -> dict[str, int]:
        """Open episodes by adapter."""
        with self._lock:
            adapters = [binding.carried.adapter for binding in self._bindings.values()]
        return {adapter: adapters.count(adapter) for adapter in adapters}

    def _end_trial(self) -> None:
        self._candidate, self._shadowing, self._trial = None, False, None

    def _rebind(self, slot: int) -> None:
        for session, binding in self._bindings.items():
            if binding.carried.slot == slot:
                self._bindings[session] = Binding(self._active)

    def _forget(self, slot: int) -> None:
        self.seen[slot].policy_ms.clear()
        self.seen[slot].bits.clear()
