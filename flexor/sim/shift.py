"""Domain shift: a level, the axes on which it acts, and the hash that says which severities these words mean."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flexor.errors import FlexorError
from flexor.sim.distractors import NEUTRAL, THINGS
from flexor.sim.shift_table import AXES, DIALS, LEVELS
from flexor.sim.shift_words import FREE, NAMES, REWORDED

SHIFT_HASH = "1cd6f769832a1df9"
"""What `table_hash` gives for the severities that every published figure was measured with."""


class ShiftError(FlexorError):
    """A level or an axis that there is not."""


@functools.cache
def table_hash() -> str:
    """The first 16 hex digits of the SHA-256 of everything that decides how far a level goes, as canonical JSON."""
    severities = {
        "dials": [asdict(dial) for dial in DIALS],
        "things": [asdict(thing) for thing in THINGS],
        "colours": NEUTRAL,
        "words": {"reworded": REWORDED, "free": FREE, "names": NAMES},
    }
    canonical = json.dumps(severities, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Shift:
    """How far the simulated workplace lies from the one of the demonstrations, and in which ways.

    Attributes:
        level: "none", "low", "medium" or "high".
        axes: those that the level acts on; all of them unless said otherwise. The others stay as in "none".

    Raises:
        ShiftError: an unknown level or axis, or no axis at all.
    """

    level: str = "none"
    axes: tuple[str, ...] = AXES

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ShiftError(f"unknown shift level {self.level!r}, expected one of: {', '.join(LEVELS)}")
        unknown = [axis for axis in self.axes if axis not in AXES]
        if unknown or not self.axes:
            wrong = f"unknown shift axis {', '.join(map(repr, unknown))}" if unknown else "a shift on no axis"
            raise ShiftError(f"{wrong}, expected some of: {', '.join(AXES)}; or the level none")
        object.__setattr__(self, "axes", tuple(axis for axis in AXES if axis in self.axes))

    @classmethod
    def parse(cls, level: str, axes: str = "") -> Shift:
        """From the words of a command line: a level, and axis names with commas between (none named: all)."""
        names = tuple(name.strip() for name in axes.split(",") if name.strip())
        return cls(level, names or AXES)

    def acts_on(self, axis: str) -> bool:
        """Whether this axis differs from "none"."""
        return self.level != "none" and axis in self.axes

    def to_dict(self) -> dict[str, Any]:
        """level, axes (none for the level "none") and hash, ready for JSON: what a figure has to say about itself."""
        axes: Sequence[str] = self.axes if self.level != "none" else ()
        return {"level": self.level, "axes": list(axes), "hash": table_hash()}


NONE = Shift()
