"""What a shift comes to in one episode: a function of (shift, scene, seed), each axis drawn by a generator of its own.

Because of that, switching an axis on or off changes nothing about the others, and the same seed turns every dial in
the same direction at every level.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flexor.sim.distractors import Place, place_things
from flexor.sim.layout import Layout
from flexor.sim.scenes import Scene
from flexor.sim.shift import Shift
from flexor.sim.shift_table import AXES, DIALS, Dial

Vector = tuple[float, ...]
ZERO3 = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ShiftDraw:
    """The dials of flexor.sim.shift_table for one episode, all at rest by default, and what follows from them.

    Attributes:
        hue: one number an item, in the scene's order; empty at rest.
        places: where the distractors stand.
        pick: in [0, 1), chooses the sentence of `wording`.
    """

    lamp: float = 0.0
    ambient: float = 0.0
    warmth: float = 0.0
    lean: Vector = ZERO3
    table_rgb: Vector = ZERO3
    hue: Vector = ()
    saturation: float = 0.0
    brightness: float = 0.0
    agent_move: Vector = ZERO3
    agent_turn: Vector = ZERO3
    wrist_move: Vector = ZERO3
    wrist_turn: Vector = ZERO3
    size: float = 0.0
    friction: float = 0.0
    things: float = 0.0
    vivid: float = 0.0
    joints: Vector = (0.0,) * 7
    delay: float = 0.0
    gain: float = 0.0
    drift: Vector = ZERO3
    jitter: float = 0.0
    wording: Vector = ZERO3
    places: tuple[Place, ...] = ()
    pick: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def axis_generator(axis: str, seed: int) -> np.random.Generator:
    """The generator of an axis in the episode of a seed; independent of the other axes and of the layout's."""
    return np.random.default_rng([seed, zlib.crc32(axis.encode())])


def draw_shift(shift: Shift, scene: Scene, seed: int, layout: Layout) -> ShiftDraw:
    """Draw the episode of a seed. `layout` is the scene's own for that seed: distractors keep clear of it."""
    drawn: dict[str, Any] = {}
    for axis in AXES:
        if not shift.acts_on(axis):
            continue
        rng = axis_generator(axis, seed)
        for dial in DIALS:
            if dial.axis == axis:
                drawn[dial.name] = turn_dial(dial, shift.level, len(scene.items), rng)
        if axis == "distractors":
            drawn["places"] = place_things(scene, layout, round(drawn["things"]), drawn["vivid"], rng)
        if axis == "paraphrase":
            drawn["pick"] = float(rng.random())
    return ShiftDraw(**drawn)


def turn_dial(dial: Dial, level: str, items: int, rng: np.random.Generator) -> Any:
    """How far a dial is turned in an episode: a number or a tuple; with each_item a tuple of these, one an item."""
    fixed, spread = (np.asarray(part, dtype=np.float64) for part in dial.amount(level))
    shape = (items, *fixed.shape) if dial.each_item else fixed.shape
    value = fixed + spread * rng.uniform(-1.0, 1.0, shape)
    if value.ndim == 0:
        return float(value)
    return tuple(tuple(row) if isinstance(row, list) else row for row in value.tolist())
