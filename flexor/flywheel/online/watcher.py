"""Watcher: who is told how an online loop goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flexor.flywheel.online.stages import Stage


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how it goes: the stage that begins, in words what happens in it, and what a stage came to."""

    on_stage: Callable[[Stage], None]
    on_line: Callable[[str], None]
    on_row: Callable[[Mapping[str, Any]], None]
