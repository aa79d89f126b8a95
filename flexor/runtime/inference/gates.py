"""Gates: what was measured of a bundle in a precision, and whether that was good enough to be served.

They lie in the bundle, in gates/PRECISION.json, and do not count for its hash: they are about it, not of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.disk import sync
from flexor.runtime.inference.bundle import Bundle

FOLDER = "gates"
SCHEMA_VERSION = 1

LEAST_MEAN, LEAST_WORST = 0.999, 0.9
"""Cosines to float32, on average and at worst, of chunks on recorded observations. At a choice between two ways, such
as whether to close the gripper now, the last bit can decide: one chunk in hundreds is then quite another one."""


class GateError(FlexorError):
    """A precision that failed its gate, or a gate that cannot be read or written."""


def is_close_enough(cos_mean: float, cos_min: float) -> bool:
    """Whether chunks are near enough to those in float32."""
    return cos_mean >= LEAST_MEAN and cos_min >= LEAST_WORST


def gate_path(bundle: Bundle, precision: str) -> Path:
    """Where the gate of a precision lies."""
    return bundle.path / FOLDER / f"{precision}.json"


def write_gate(bundle: Bundle, precision: str, passed: bool, measured: Mapping[str, Any]) -> Path:
    """Keep what was measured; what was there before is replaced at once, or not at all.

    Raises:
        GateError: the bundle's folder cannot be written.
    """
    path = gate_path(bundle, precision)
    content = {"schema_version": SCHEMA_VERSION, "bundle_hash": bundle.hash, "precision": precision, "passed": passed}
    draft = path.with_suffix(".part")
    try:
        path.parent.mkdir(exist_ok=True)
        draft.write_text(json.dumps({**content, **measured}, indent=1) + "\n")
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    except OSError as error:
        raise GateError(f"{path} cannot be written ({error.strerror}); copy the bundle to where you may") from error
    return path


def check_gate(bundle: Bundle, precision: str) -> None:
    """Refuse a precision that was measured on this very bundle and failed; one that was not measured may pass.

    Raises:
        GateError: it failed, or its file cannot be understood.
    """
    path = gate_path(bundle, precision)
    if not path.exists():
        return
    try:
        gate = json.loads(path.read_text())
        about, passed = gate["bundle_hash"], gate["passed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GateError(f"{path} is no gate ({error}); measure again: flexor verify {bundle.path}") from error
    if about == bundle.hash and passed is not True:
        raise GateError(
            f"{bundle.id} in {precision} failed its gate ({path}); serve it in fp32, or anyway with --force"
        )
