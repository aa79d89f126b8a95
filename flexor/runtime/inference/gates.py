"""Gates: what was measured of a bundle in a precision, and whether that was good enough to be served.

A gate has two parts, measured by different commands: parity (chunks beside float32's) and success (episodes beside
float32's). They lie in the bundle, in gates/PRECISION.json, and do not count for its hash: they are about it and not of
it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from flexor.errors import FlexorError
from flexor.runtime.disk import sync
from flexor.runtime.inference.bundle import Bundle

FOLDER = "gates"
SCHEMA_VERSION = 2
Part = Literal["parity", "success"]
PARTS: dict[Part, str] = {"parity": "flexor verify", "success": "flexor eval --gate"}
"""And the command that measures each."""

LEAST_MEAN, LEAST_WORST = 0.999, 0.9
"""Cosines to float32, on average and at worst, of chunks on recorded observations. At a choice between two ways, such
as whether to close the gripper now, the last bit can decide: one chunk in hundreds is then quite another one."""

LEAST_DIFFERENCE, LEAST_OF_GRAPHS = -0.05, -0.03
"""Of success rates, the precision's less float32's, or those of exported graphs less those of their source in float32,
on the same episodes: what the lower end of the 95 % interval must exceed."""


class GateError(FlexorError):
    """A precision that failed its gate, or a gate that cannot be read or written."""


def is_close_enough(cos_mean: float, cos_min: float) -> bool:
    """Whether chunks are near enough to those in float32."""
    return cos_mean >= LEAST_MEAN and cos_min >= LEAST_WORST


def succeeds_enough(difference: float, low: float, high: float, least: float = LEAST_DIFFERENCE) -> bool | None:
    """Whether a precision, or graphs, are no worse than float32 by more than they may.

    Args:
        difference: of the success rates.
        low, high: its 95 % interval.
        least: LEAST_DIFFERENCE or LEAST_OF_GRAPHS.

    Returns:
        True or False; None where too few episodes were played to tell.
    """
    if low > least:
        return True
    return False if difference <= least or high < 0 else None


def gate_path(bundle: Bundle, precision: str) -> Path:
    """Where the gate of a precision lies."""
    return bundle.path / FOLDER / f"{precision}.json"


def write_gate(
    bundle: Bundle, precision: str, part: Part, passed: bool | None, told: str, measured: Mapping[str, Any]
) -> Path:
    """Keep what was measured of one part; the other part stays if it is of this very bundle.

    The file is replaced at once, or not at all.

    Args:
        precision: by its full name.
        passed: None where the measurement could not tell.
        told: the figures that decided, in words.

    Raises:
        GateError: the bundle's folder cannot be written.
    """
    path = gate_path(bundle, precision)
    try:
        kept = _read(bundle, precision)
    except GateError:
        kept = {}  # nothing that could be kept
    content = {"schema_version": SCHEMA_VERSION, "bundle_hash": bundle.hash, "precision": precision, **kept}
    return replace_json(path, {**content, part: {"passed": passed, "told": told, **measured}})


def check_gate(bundle: Bundle, precision: str) -> None:
    """Refuse a precision of which a part was measured on this very bundle and failed; what was not measured may pass.

    Raises:
        GateError: it failed, with the figures of every part that did, or its file cannot be understood.
    """
    failed = {part: found for part, found in _read(bundle, precision).items() if found["passed"] is False}
    if failed:
        reasons = "; ".join(f"{part}: {found['told']}" for part, found in failed.items())
        instead = "serve it in fp32" if bundle.config.graphs is None else "serve the bundle that it was exported from"
        raise GateError(
            f"{bundle.id} in {precision} failed its gate ({gate_path(bundle, precision)}): {reasons}; {instead}, or"
            " anyway with --force"
        )


def replace_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Put a file into a bundle's folder of gates, whole and durable, or not at all.

    Raises:
        GateError: it cannot be written.
    """
    draft = path.with_suffix(".part")
    try:
        path.parent.mkdir(exist_ok=True)
        draft.write_text(json.dumps(content, indent=1) + "\n")
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    except OSError as error:
        raise GateError(f"{path} cannot be written ({error.strerror}); copy the bundle to where you may") from error
    return path


def _read(bundle: Bundle, precision: str) -> dict[str, dict[str, Any]]:
    """The parts that were measured on this very bundle."""
    path = gate_path(bundle, precision)
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {content['schema_version']}, not {SCHEMA_VERSION}")
        parts = {part: content[part] for part in PARTS if part in content and content["bundle_hash"] == bundle.hash}
        if any(found["passed"] not in (True, False, None) or not found["told"] for found in parts.values()):
            raise ValueError("a part without a verdict")
    except (OSError, ValueError, KeyError, TypeError) as error:
        commands = ", ".join(PARTS.values())
        raise GateError(f"{path} is no gate ({error!r}); measure again: {commands}") from error
    return parts
