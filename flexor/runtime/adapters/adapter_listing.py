"""The listing of a directory of adapters: what is active, what is tried, and a row of each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flexor.runtime.adapters.manifest import BASE, split_id
from flexor.runtime.adapters.store_state import Record, StoreState

SHOWN = 40
"""Adapters in a listing, the latest."""


def listing(root: Path, state: StoreState) -> dict[str, Any]:
    """Plain values.

    Args:
        root: the directory.
        state: what it remembers.
    """
    there = sorted((found, entry.name) for entry in root.iterdir() if (found := split_id(entry.name)))
    rows = []
    for name in (BASE, *[name for _, name in there[-SHOWN:]]):
        record = state.records.get(name) or Record(id=name, state="RETIRED", at="")
        row = record.model_dump(exclude={"sha256", "model_sha256", "recent"})
        if name == BASE:
            row["state"] = "ACTIVE" if state.active == BASE else "BASE"
        elif name not in state.records:
            row["state"] = "UNANNOUNCED"
        rows.append(row)
    return {
        "dir": str(root),
        "active": state.active,
        "previous": state.history[-1] if state.history else None,
        "candidate": state.candidate,
        "seen": state.seen,
        "adapters": rows,
    }
