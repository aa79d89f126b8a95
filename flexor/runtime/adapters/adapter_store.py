"""AdapterStore: one directory of adapters, its memory of them and its log; one server owns it at a time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.audit_log import AuditLog, now
from flexor.runtime.adapters.legible import legible
from flexor.runtime.adapters.manifest import BASE, split_id
from flexor.runtime.adapters.store_state import RECENT, STATE, Record, State, StoreState
from flexor.runtime.draft_folder import sweep_drafts

KEPT = 3
"""Adapters that stay on disk: so many that were active, and so many that were rejected."""

LOCK = ".lock"
MAX_TOLD = 500
logger = logging.getLogger(__name__)


class AdapterStore:
    """Use it as a context, or close() it. One thread uses it.

    Attributes:
        root: the directory.
        state: as it is on disk.
        announce: hears of every change of an adapter's state: adapter, state, reason, told.
    """

    def __init__(self, root: str | Path) -> None:
        """Open a directory, made when missing, and sweep what killed writers left.

        A state file that cannot be read is moved aside: then the base is active, and no adapter that lies there
        already counts as new.

        Raises:
            AdapterError: busy: another server has it.
            OSError: the disk refuses.
        """
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise AdapterError(
                "busy", f"{self.root} is another server's; give this one a directory of its own: --adapters DIR"
            ) from error
        self._log = AuditLog(self.root)
        self.announce: Callable[[dict[str, Any]], None] = lambda told: None
        sweep_drafts(self.root, "*")
        try:
            self.state = StoreState.read(self.root)
        except AdapterError as error:
            broken = (self.root / STATE).rename(self.root / f"{STATE}.broken")
            self.state = StoreState(seen=max((version for version, _ in map(_split, self.ids())), default=0))
            self.state.write(self.root)
            self.log("state.broken", BASE, told=f"{error}; it lies at {broken.name} now, and the base is served")

    def ids(self) -> list[str]:
        """The adapters that lie there, by version."""
        return sorted((entry.name for entry in self.root.iterdir() if split_id(entry.name)), key=_split)

    def path(self, adapter: str) -> Path:
        """The folder of an adapter.

        Raises:
            AdapterError: unknown: it is no name of an adapter, or there is none.
        """
        if split_id(adapter) is None or not (self.root / adapter).is_dir():
            known = ", ".join(self.ids()[-KEPT:]) or "none"
            raise AdapterError(
                "unknown", f"there is no adapter {adapter[:80]!r} in {self.root}; the latest are: {known}"
            )
        return self.root / adapter

    def update(self, **changes: Any) -> None:
        """Change the state on disk, then here.

        Raises:
            OSError: the disk refuses; nothing has changed.
        """
        changed = self.state.model_copy(update=changes)
        changed.write(self.root)
        self.state = changed

    def record(self, adapter: str) -> Record | None:
        """What is remembered of an adapter."""
        return self.state.records.get(adapter)

    def note(
        self,
        adapter: str,
        state: State,
        pointers: dict[str, Any] | None = None,
        others: Mapping[str, State] | None = None,
        **changes: Any,
    ) -> Record:
        """Put an adapter into a state, with changed pointers and others that change with it, in one step on disk.

        Then each is logged and announced.

        Args:
            pointers: of StoreState: active, candidate, history, seen, blacklist.
            others: states of other adapters.
            changes: of its Record.

        Raises:
            OSError: the disk refuses; nothing has changed.
        """
        changes["told"] = legible(changes.get("told", ""))[:MAX_TOLD]
        decided: list[tuple[str, State, dict[str, Any]]] = [(adapter, state, changes)]
        for other, stands in (others or {}).items():
            decided.append((other, stands, {"told": f"{adapter} is {state}"}))
        noted: dict[str, Record] = {}
        for name, stands, fresh in decided:
            known = self.record(name) or Record(id=name, state=stands, at=now())
            noted[name] = known.model_copy(update={"reason": None, **fresh, "state": stands, "at": now()})
        self.update(records={**self.state.records, **noted}, **(pointers or {}))
        for name, stands, fresh in decided:
            self.log(f"adapter.{stands.lower()}", name, **{key: value for key, value in fresh.items() if value})
            record = noted[name]
            self.announce({"adapter": name, "state": stands, "reason": record.reason, "told": record.told})
        return noted[adapter]

    def blacklisted(self, adapter: str, reason: str) -> dict[str, Any]:
        """The changed pointer for `note` that keeps an adapter's weights from coming back; none if they are unknown."""
        record = self.record(adapter)
        if record is None or record.model_sha256 is None:
            return {}
        return {"blacklist": {**self.state.blacklist, record.model_sha256: f"{adapter}, {reason}"}}

    def count(self, adapter: str, success: bool) -> None:
        """Count an episode that ended with an adapter."""
        record = self.record(adapter) or Record(id=adapter, state="ACTIVE", at=now())
        changes = {
            "episodes": record.episodes + 1,
            "successes": record.successes + success,
            "recent": (record.recent + "01"[success])[-RECENT:],
        }
        self.update(records={**self.state.records, adapter: record.model_copy(update=changes)})

    def log(self, event: str, adapter: str, **fields: Any) -> None:
        """Append to the audit log; a disk that refuses is told in the server's log, for serving must go on."""
        try:
            self._log.append(event, adapter=adapter, **fields)
        except OSError as error:
            logger.error("%s of %s could not be written to the audit log: %s", event, adapter, error)

    def remove(self, adapter: str) -> None:
        """Delete an adapter's folder and what is remembered of it; its hash stays on the blacklist.

        Raises:
            AdapterError: unknown, or in_use.
        """
        path = self.path(adapter)
        if adapter in (self.state.active, self.state.candidate):
            raise AdapterError(
                "in_use", f"{adapter} is served or being tried; roll it back first: flexor adapter rollback"
            )
        records = {name: record for name, record in self.state.records.items() if name != adapter}
        history = tuple(name for name in self.state.history if name != adapter)
        self.update(records=records, history=history)
        self._delete(path)
        self.log("adapter.removed", adapter)

    def prune(self) -> None:
        """Delete what is neither served, tried, one of the last KEPT of its kind, nor still to be announced.

        A disk that refuses is told in the server's log: what was decided before stands, and the next time tries again.
        """
        try:
            self._prune()
        except OSError as error:
            logger.error("old adapters in %s could not be deleted: %s", self.root, error)

    def close(self) -> None:
        """Let another server have the directory. Closing twice is allowed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> AdapterStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _prune(self) -> None:
        state = self.state
        served = [name for name in state.history if name != BASE][-KEPT:]
        refused = {name for name, record in state.records.items() if record.state == "REJECTED"}
        decided = [name for name in self.ids() if _split(name)[0] <= state.seen or name in refused]
        keep = {state.active, state.candidate, *served}
        keep.update([name for name in decided if name not in keep][-KEPT:])
        for name in decided:
            if name not in keep:
                self._delete(self.root / name)
                self.log("adapter.pruned", name)
        there = {BASE, *self.ids()}
        records = {name: record for name, record in state.records.items() if name in there}
        if len(records) < len(state.records):
            self.update(records=records, history=tuple(name for name in state.history if name in there))

    def _delete(self, path: Path) -> None:
        """Out of sight in one step, then gone: what a kill leaves half deleted has no adapter's name."""
        hidden = path.with_name(f".{path.name}-removed0")
        path.rename(hidden)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(hidden)


def _split(adapter: str) -> tuple[int, str]:
    found = split_id(adapter)
    assert found is not None, adapter
    return found
