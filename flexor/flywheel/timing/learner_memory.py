"""Memory of a learner: its peak, and its pace, as one knob after the other is turned, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.learner.lora.memory_knobs import Knob, next_knob
from flexor.learner.lora.settings import LoraSettings
from flexor.runtime.child_process import end_with_parent

LIMIT_S = 3600.0  # of one learner

OnKnob = Callable[[str, int, int], None]
"""Told (what is measured now, settings done, settings in all)."""


def turned_knobs(settings: LoraSettings) -> list[Knob]:
    """Every knob from these settings on, in the order in which a learner out of memory names them."""
    knobs: list[Knob] = []
    while (knob := next_knob(settings)) is not None:
        knobs.append(knob)
        settings = settings.model_copy(update=dict(knob.changes))
    return knobs


def measure_learner_memory(
    bundle: Path, episodes: Path, settings: LoraSettings, work: Path, on_knob: OnKnob
) -> list[dict[str, Any]]:
    """Learn `settings.steps` steps with these settings, then with each knob turned besides the ones before it.

    Args:
        bundle: that is taught.
        episodes: that are learned from.
        settings: the most generous; with a budget in steps.
        work: an empty folder.
        on_knob: see OnKnob.

    Returns:
        A row each: knob, peak_mb (of the whole process), saved (share of the row before), samples_per_s (optimiser
        steps alone, with the prefixes encoded that they need).

    Raises:
        FlexorError: a learner failed or took longer than LIMIT_S.
    """
    rows: list[dict[str, Any]] = []
    knobs = turned_knobs(settings)
    given = settings.model_dump(mode="json", exclude_defaults=True)
    for done, knob in enumerate((None, *knobs)):
        name = "as given" if knob is None else str(knob).partition(",")[0]
        on_knob(name, done, 1 + len(knobs))
        given |= dict(knob.changes) if knob else {}
        told = _learn(bundle, episodes, given, work / str(done))
        peak = told["host_memory_mb"]
        saved = 1.0 - peak / rows[-1]["peak_mb"] if rows else None
        rows.append(
            {"knob": name, "peak_mb": peak, "saved": saved, "samples_per_s": told["samples"] / (60 * told["minutes"])}
        )
    return rows


def _learn(bundle: Path, episodes: Path, given: Mapping[str, Any], work: Path) -> dict[str, Any]:
    work.mkdir(parents=True)
    result = work / "learned.json"
    command = [sys.executable, "-m", "flexor", "learn", "--once", "--bundle", str(bundle), "--episodes", str(episodes)]
    command += ["--out", str(work / "adapters"), "--json", str(result)]
    command += [f"{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in given.items()]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=False, preexec_fn=end_with_parent()
        )
    except subprocess.TimeoutExpired:
        raise FlexorError(f"a learner with {dict(given)} took longer than {LIMIT_S:g} s; give fewer --steps") from None
    if done.returncode:
        raise FlexorError(f"a learner with {dict(given)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(result.read_text())
