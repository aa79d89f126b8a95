"""ActiveAdapter: what is served: restored after a start, exchanged by order or promotion, taken back when it does harm.

The disk is told first, then the slots: whatever a kill interrupts, a restart finds the last adapter that was whole.
Only where an adapter does harm are the slots changed first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_slots import OWN, AdapterSlots, Carried
from flexor.runtime.adapters.adapter_store import AdapterStore
from flexor.runtime.adapters.loader import Loader
from flexor.runtime.adapters.manifest import BASE, split_id
from flexor.runtime.adapters.store_state import State
from flexor.runtime.adapters.watch import is_alarming, is_slower, is_worse

HISTORY = 20
History = tuple[str, ...]
Action = Callable[[], None]


class ActiveAdapter:
    """The active adapter of one server. One thread uses it."""

    def __init__(self, store: AdapterStore, loader: Loader, slots: AdapterSlots, settings: AdapterSettings) -> None:
        self._store, self._loader, self._slots, self._settings = store, loader, slots, settings
        self._ahead: tuple[str, History] | None = None  # active and history that the disk is still to be told of
        self._since = (0, 0)  # its successes and episodes when it became active

    @property
    def name(self) -> str:
        """What is served, also where the disk does not know it yet."""
        return self._stands[0]

    def restore(self) -> Action:
        """After a start: load what was active; the base is served if it no longer verifies.

        Returns:
            What is left: to note that, see roll_back().
        """
        name, history = self._stands
        if name != BASE:
            try:
                self._slots.activate(self._loader.loaded(self._loader.verify(name)), at_once=True)
                self._slots.forget_previous()
                self._store.log("adapter.restored", name)
            except FlexorError as error:
                reason = error.reason if isinstance(error, AdapterError) else "internal"
                return self._leave(name, "REJECTED", (BASE, history), reason, str(error))
        self._mark()
        return lambda: None

    def swap(self, name: str, at_once: bool) -> None:
        """Serve an adapter, or `base`, by order: verified, but not tried; what it replaces is its parent.

        Raises:
            AdapterError: it does not verify, is blacklisted, or no slot is free.
            EngineError: the engine does not take it.
            OSError: the disk refuses; nothing has changed.
        """
        changes = {} if name == BASE else {"parent": self.name}
        if name == BASE:
            carried = OWN
        elif name == self._slots.previous.adapter:
            carried = self._slots.previous
        else:
            verified = self._loader.verify(name)
            carried = self._loader.loaded(verified)
            changes |= verified.hashes  # without them, nothing could put its weights on the blacklist
        self.serve(carried, at_once, "it was ordered", **changes)

    def serve(self, carried: Carried, at_once: bool, told: str, **changes: str) -> None:
        """Make a loaded adapter the active one.

        Args:
            changes: of its Record.

        Raises:
            OSError: the disk refuses; nothing has changed.
        """
        name, state = carried.adapter, self._store.state
        version, _ = split_id(name) or (0, "")
        pointers: dict[str, Any] = {"active": name, "seen": max(state.seen, version)}
        others: dict[str, State] = {}
        if state.active != name:
            pointers["history"] = (*state.history, state.active)[-HISTORY:]
            others = {} if state.active == BASE else {state.active: "RETIRED"}
        if state.candidate == name:
            pointers["candidate"] = None
        self._store.note(name, "ACTIVE", pointers, others, told=told, **changes)
        self._ahead = None
        self._slots.activate(carried, at_once)
        self._mark()

    def roll_back(self, name: str, reason: str, told: str, for_ever: bool) -> Action:
        """Serve what was active before `name`, from the next chunk of every session on, whatever the disk says.

        Args:
            for_ever: put its weights on the blacklist.

        Returns:
            What is left: to note it. It raises OSError where the disk refuses, may be done again, and does nothing
            where `name` is not active any more.
        """
        active, history = self._stands
        if active != name:
            return lambda: None
        target = history[-1] if history else BASE
        if self._slots.active.adapter == name:
            self._slots.activate(self._return_to(target), at_once=True)
        self._slots.forget_previous()
        now = self._slots.active.adapter
        stands = (now, history[:-1] if now == target else ())
        return self._leave(name, "ROLLED_BACK", stands, reason, told, for_ever)

    def trouble(self) -> tuple[str, str] | None:
        """Whether it is slower, more uncertain or less successful than what was there before: reason and words."""
        active = self._slots.active
        if active.adapter == BASE or active.adapter != self.name:
            return None
        found = trouble_of(self._slots, active, self._slots.previous, self._settings)
        record = self._store.record(active.adapter)
        parent = self._store.record(record.parent) if record else None
        if found is None and record is not None and parent is not None:
            now = (record.successes - self._since[0], record.episodes - self._since[1])
            told = is_worse((parent.recent.count("1"), len(parent.recent)), now)
            found = None if told is None else ("success", told)
        return found

    @property
    def _stands(self) -> tuple[str, History]:
        """What is served, and what was before it."""
        return self._ahead or (self._store.state.active, self._store.state.history)

    def _leave(
        self, name: str, state: State, stands: tuple[str, History], reason: str, told: str, for_ever: bool = False
    ) -> Action:
        """`name` is not served any more, but what `stands` says; the action that notes it."""
        self._ahead = stands
        self._mark()

        def note() -> None:
            if self._store.state.active == name:
                active, history = stands
                pointers = self._store.blacklisted(name, reason) if for_ever else {}
                others: dict[str, State] = {} if active == BASE else {active: "ACTIVE"}
                pointers |= {"active": active, "history": history}
                self._store.note(name, state, pointers, others, reason=reason, told=told)
            if self._ahead is stands:
                self._ahead = None
            self._store.prune()

        return note

    def _return_to(self, target: str) -> Carried:
        """What was active before, from its slot or from disk; the base if it is not there any more."""
        if target == self._slots.previous.adapter:
            return self._slots.previous
        try:
            return OWN if target == BASE else self._loader.loaded(self._loader.verify(target))
        except FlexorError as error:
            self._store.log("adapter.unavailable", target, told=str(error))
            return OWN

    def _mark(self) -> None:
        record = self._store.record(self.name)
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
