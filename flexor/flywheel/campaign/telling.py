"""Tells a campaign: figures of every cell, arms compared, and notes on what the figures leave out or mix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.campaign.cells import Campaign, Cell
from flexor.flywheel.campaign.results_file import Measurement
from flexor.flywheel.campaign.standing import Standing, compare, measurements_of

HASH_DIGITS = 12


def tell(campaign: Campaign, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """What is there of a campaign.

    A cell counts with its bundle as it is now, and times count for each machine by itself. Of a bundle that is not
    here, the one that was measured last counts.

    Returns:
        cells (a row a cell, or a cell and machine where times are taken, see Standing.summary), comparisons (see
        standing.compare) and notes (sentences).
    """
    notes: list[str] = []
    told: dict[str, list[Standing]] = {}
    for cell in campaign.cells:
        found = measurements_of(cell, measurements)
        bundle_hash = _bundle_hash(cell, found, notes)
        same = [m for m in found if m.bundle_hash == bundle_hash]
        if len(same) > len(Standing.of(cell, bundle_hash, same, "").measurements) and not cell.kind.timed:
            notes.append(f"not shown: results of {cell.name} when its shift meant something else")
        machines = dict.fromkeys(m.machine for m in same) if cell.kind.timed else {}
        told[cell.name] = [Standing.of(cell, bundle_hash, same, machine) for machine in machines or [""]]
    every = [standing for standings in told.values() for standing in standings]
    empty = [standing.cell.name for standing in every if not standing.measurements]
    if empty:
        notes.append(f"nothing there yet: {', '.join(empty)}")
    mixed = [standing.cell.name for standing in every if len({m.commit for m in standing.measurements}) > 1]
    if mixed:
        notes.append(f"measured by the code of more than one commit: {', '.join(mixed)}")
    notes += _left_out(campaign, measurements, every)
    return {
        "cells": [standing.summary() for standing in every],
        "comparisons": [compare(told[arm.name][0], told[baseline.name][0]) for arm, baseline in campaign.pairs],
        "notes": notes,
    }


def _bundle_hash(cell: Cell, found: Sequence[Measurement], notes: list[str]) -> str | None:
    try:
        return cell.bundle_hash()
    except FlexorError as error:
        newest = found[-1].bundle_hash if found else None
        if newest is not None:
            notes.append(f"{cell.name}: {error}; shown is the bundle {newest[:HASH_DIGITS]}, which was measured last")
        else:
            notes.append(f"{cell.name}: {error}")
        return newest


def _left_out(campaign: Campaign, measurements: Sequence[Measurement], every: Sequence[Standing]) -> list[str]:
    shown = {id(m) for standing in every for m in standing.measurements}
    known = {id(m) for cell in campaign.cells for m in measurements_of(cell, measurements)}
    bundles = {standing.bundle_hash for standing in every}
    others = [m for m in measurements if id(m) in known - shown and m.bundle_hash not in bundles]
    notes = []
    if others:
        hashes = ", ".join(sorted({(m.bundle_hash or "none")[:HASH_DIGITS] for m in others}))
        notes.append(f"not shown: {_count(others)} of other bundles, {hashes}")
    strange = [m for m in measurements if id(m) not in known]
    if strange:
        notes.append(f"not shown: {_count(strange)} of cells that the campaign does not have")
    return notes


def _count(measurements: Sequence[Measurement]) -> str:
    return f"{len(measurements)} result{'s' * (len(measurements) != 1)}"
