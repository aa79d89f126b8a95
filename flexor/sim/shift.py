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
from flexor.sim.libero.shift import table as libero_table
from flexor.sim.libero.shift import words as libero_words
from flexor.sim.libero.suites import is_suite
from flexor.sim.shift_table import AXES, DIALS, LEVELS
from flexor.sim.shift_words import FREE, NAMES, REWORDED

TABLETOP, LIBERO = "tabletop", "libero"
AXES_OF = {TABLETOP: AXES, LIBERO: libero_table.LIBERO_AXES}
"""What can be shifted, by world: the tabletop, or LIBERO's suites."""

SHIFT_HASH = "1cd6f769832a1df9"
"""What `table_hash` gives for the severities that every published figure was measured with."""
LIBERO_SHIFT_HASH = "5f33a6b2f8abb545"
"""The same of LIBERO's; no figure has been measured with it yet."""


class ShiftError(FlexorError):
    """A level or an axis that there is not."""


def world_of(sim: str) -> str:
    """The world of a simulator's or robot's name: LIBERO's for its suites, for all others the tabletop's."""
    return LIBERO if is_suite(sim.removeprefix("sim:").partition("/")[0]) else TABLETOP


@functools.cache
def table_hash(world: str = TABLETOP) -> str:
    """The first 16 hex digits of the SHA-256 of everything that decides how far a level goes, as canonical JSON."""
    severities = _libero_severities() if world == LIBERO else _tabletop_severities()
    canonical = json.dumps(severities, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _tabletop_severities() -> dict[str, Any]:
    return {
        "dials": [asdict(dial) for dial in DIALS],
        "things": [asdict(thing) for thing in THINGS],
        "colours": NEUTRAL,
        "words": {"reworded": REWORDED, "free": FREE, "names": NAMES},
    }


def _libero_severities() -> dict[str, Any]:
    return {
        "dials": [asdict(dial) for dial in libero_table.LIBERO_DIALS],
        "things": [asdict(thing) for thing in THINGS],
        "colours": [libero_table.NEUTRAL, libero_table.VIVID],
        "textures": libero_table.TEXTURES,
        "blurs": libero_table.BLUR_PER_SEVERITY,
        "words": {"reworded": libero_words.REWORDED, "free": libero_words.FREE, "names": libero_words.NAMES},
    }


@dataclass(frozen=True, slots=True)
class Shift:
    """How far the simulated workplace lies from the one of the demonstrations, and in which ways.

    Attributes:
        level: "none", "low", "medium" or "high".
        axes: those that the level acts on; all of them unless said otherwise. The others stay as in "none".
        world: whose axes they are: "tabletop" or "libero".

    Raises:
        ShiftError: an unknown level or axis, or no axis at all.
    """

    level: str = "none"
    axes: tuple[str, ...] = AXES
    world: str = TABLETOP

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ShiftError(f"unknown shift level {self.level!r}, expected one of: {', '.join(LEVELS)}")
        known = AXES_OF[self.world]
        unknown = [axis for axis in self.axes if axis not in known]
        if unknown or not self.axes:
            wrong = f"unknown shift axis {', '.join(map(repr, unknown))}" if unknown else "a shift on no axis"
            raise ShiftError(f"{wrong} of {self.world}, expected some of: {', '.join(known)}; or the level none")
        object.__setattr__(self, "axes", tuple(axis for axis in known if axis in self.axes))

    @classmethod
    def parse(cls, level: str, axes: str = "", sim: str = TABLETOP) -> Shift:
        """From the words of a command line: a level, axis names with commas between (none named: all), a simulator."""
        world = world_of(sim)
        names = tuple(name.strip() for name in axes.split(",") if name.strip())
        return cls(level, names or AXES_OF[world], world)

    def of(self, world: str) -> Shift:
        """The same level in another world: on all of its axes, or on those named alike.

        Raises:
            ShiftError: the other world has not all of the axes.
        """
        if world == self.world:
            return self
        return Shift(self.level, AXES_OF[world] if self.axes == AXES_OF[self.world] else self.axes, world)

    def acts_on(self, axis: str) -> bool:
        """Whether this axis differs from "none"."""
        return self.level != "none" and axis in self.axes

    def to_dict(self) -> dict[str, Any]:
        """level, axes (none for the level "none") and hash, ready for JSON: what a figure has to say about itself."""
        axes: Sequence[str] = self.axes if self.level != "none" else ()
        return {"level": self.level, "axes": list(axes), "hash": table_hash(self.world)}


NONE = Shift()
