"""ActiveAdapter: what is served: restored after a start, exchanged by order or promotion, taken back when it does harm.

The disk is told first, then the slots: whatever a kill interrupts, a restart finds the last adapter that was whole.
Only where an adapter does harm are the slots changed first.
"""

from __future__ import annotations

from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import OWN, AdapterSlots, Carried
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.loader import Loader
from flexor.runtime.adapters.manifest import BASE, split_id
from flexor.runtime.adapters.watch import is_alarming, is_slower, is_worse

HISTORY = 20


class ActiveAdapter:
    """The active adapter of one server. One thread uses it."""

    def __init__(self, store: AdapterStore, loader: Loader, slots: AdapterSlots, settings: AdapterSettings) -> None:
        self._store, self._loader, self._slots, self._settings = store, loader, slots, settings
        self._since = (0, 0)  # its successes and episodes when it became active

    def restore(self) -> None:
        """After a start: load what was active; the base is served if it no longer verifies.

        Raises:
            OSError: the disk refuses.
        """
        name = self._store.state.active
        if name != BASE:
            try:
                self._slots.activate(self._loader.loaded(name), at_once=True)
                self._slots.forget_previous()
                self._store.log("adapter.restored", name)
            except FlexorError as error:
                reason = error.reason if isinstance(error, AdapterError) else "internal"
                self._store.note(name, "REJECTED", {"active": BASE}, reason=reason, told=str(error))
        self._mark()

    def swap(self, name: str, at_once: bool) -> None:
        """Serve an adapter, or `base`, by order: verified, but not tried.

        Raises:
            AdapterError: it does not verify, is blacklisted, or no slot is free.
            EngineError: the engine does not take it.
            OSError: the disk refuses; nothing has changed.
        """
        if name == BASE:
            carried = OWN
        elif name == self._slots.previous.adapter:
            carried = self._slots.previous
        else:
            carried = self._loader.loaded(name)
        self.serve(carried, at_once, "it was ordered")

    def serve(self, carried: Carried, at_once: bool, told: str) -> None:
        """Make a loaded adapter the active one.

        Raises:
            OSError: the disk refuses; nothing has changed.
        """
        name, state = carried.adapter, self._store.state
        version, _ = split_id(name) or (0, "")
        pointers: dict[str, Any] = {
            "active": name,
            "history": (*state.history, state.active)[-HISTORY:],
            "seen": max(state.seen, version),
        }
        if state.candidate == name:
            pointers["candidate"] = None
        self._store.note(name, "ACTIVE", pointers, told=told)
        if state.active != BASE:
            self._store.note(state.active, "RETIRED")
        self._slots.activate(carried, at_once)
        self._mark()

    def roll_back(self, reason: str, told: str, for_ever: bool) -> None:
        """Serve what was active before, from the next chunk of every session on.

        Args:
            for_ever: put its weights on the blacklist.

        Raises:
            OSError: the disk refuses to note it; it is not served any more all the same.
        """
        state = self._store.state
        name = state.active
        target = state.history[-1] if state.history else BASE
        if self._slots.active.adapter == name:
            self._slots.activate(self._return_to(target), at_once=True)
        self._slots.forget_previous()
        active = self._slots.active.adapter
        pointers: dict[str, Any] = {"active": active, "history": state.history[:-1] if active == target else ()}
        if for_ever:
            pointers |= self._store.blacklisted(name, reason)
        self._store.note(name, "ROLLED_BACK", pointers, reason=reason, told=told)
        if active != BASE:
            self._store.note(active, "ACTIVE", told=f"{name} was rolled back")
        self._mark()

    def trouble(self) -> tuple[str, str] | None:
        """Whether it is slower, more uncertain or less successful than what was there before: reason and words."""
        active = self._slots.active
        if active.adapter == BASE or active.adapter != self._store.state.active:
            return None
        found = trouble_of(self._slots, active, self._slots.previous, self._settings)
        record = self._store.record(active.adapter)
        parent = self._store.record(record.parent) if record else None
        if found is None and record is not None and parent is not None:
            now = (record.successes - self._since[0], record.episodes - self._since[1])
            told = is_worse((parent.recent.count("1"), len(parent.recent)), now)
            found = None if told is None else ("success", told)
        return found

    def _return_to(self, target: str) -> Carried:
        """What was active before, from its slot or from disk; the base if it is not there any more."""
        if target == self._slots.previous.adapter:
            return self._slots.previous
        try:
            return OWN if target == BASE else self._loader.loaded(target)
        except FlexorError as error:
            self._store.log("adapter.unavailable", target, told=str(error))
            return OWN

    def _mark(self) -> None:
        record = self._store.record(self._store.state.active)
        self._since = (record.successes, record.episodes) if record else (0, 0)


def trouble_of(slots: AdapterSlots, now: Carried, before: Carried, settings: AdapterSettings) -> tuple[str, str] | None:
    """Whether chunks of one slot are slower or more uncertain than those of another: reason and words."""
    if now.slot == before.slot:
        return None
    mine, theirs = slots.seen[now.slot], slots.seen[before.slot]
    told = is_slower(list(theirs.policy_ms), list(mine.policy_ms), settings.latency_ratio)
    if told is not None:
        return "latency", told
    told = is_alarming(list(theirs.bits), list(mine.bits), settings.alarm_rate)
    return None if told is None else ("alarms", told)
