"""What a shift comes to in one LIBERO episode: a function of (shift, suite, task, seed); needs no simulator.

Each axis is drawn by a generator of its own: switching one on or off changes nothing about the others, and a seed turns
a dial in the same direction at every level.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from flexor.sim.distractors import THINGS
from flexor.sim.libero.sentences import split
from flexor.sim.libero.shift.table import BLURS, LIBERO_AXES, LIBERO_DIALS, NEUTRAL, TEXTURES, VIVID
from flexor.sim.libero.shift.words import free, reworded
from flexor.sim.libero.suites import SuiteTask
from flexor.sim.shift import Shift
from flexor.sim.shift_draw import ZERO3, Vector, axis_generator, turn_dial
from flexor.sim.shift_words import choose_wording


@dataclass(frozen=True, slots=True)
class Distractor:
    """A thing that no task is about: which of flexor.sim.distractors.THINGS, how it is turned (rad), its colour."""

    thing: int
    yaw: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class LiberoDraw:
    """The dials of flexor.sim.libero.shift.table for one episode, all at rest by default, and what follows from them.

    Attributes:
        moves: m along x and y by object, before what collides or cannot be reached has shortened it.
        distractors: what is set out; where, is found once the scene stands (by `place_seed`).
        textures: the file that a surface wears in place of its own, by surface.
        blur: kind of blur of the agent camera, one of BLURS; "" at rest.
        blur_seed: decides the rest of it: direction of motion, pattern of fog and glass, grain.
        pick: in [0, 1), chooses the sentence of `wording`.
        sentence: what is said; "" at rest.
    """

    azimuth: float = 0.0
    elevation: float = 0.0
    distance: float = 0.0
    agent_turn: Vector = ZERO3
    wrist_move: Vector = ZERO3
    wrist_turn: Vector = ZERO3
    lamp: float = 0.0
    ambient: float = 0.0
    warmth: float = 0.0
    lean: Vector = ZERO3
    table_tone: Vector = ZERO3
    room_tone: Vector = ZERO3
    swap: float = 0.0
    moves: Mapping[str, Vector] = field(default_factory=dict)
    things: float = 0.0
    vivid: float = 0.0
    joints: Vector = (0.0,) * 7
    severity: float = 0.0
    grain: float = 0.0
    wording: Vector = ZERO3
    friction: float = 0.0
    mass: float = 0.0
    delay: float = 0.0
    gain: float = 0.0
    drift: Vector = ZERO3
    jitter: float = 0.0
    distractors: tuple[Distractor, ...] = ()
    place_seed: int = 0
    textures: Mapping[str, str] = field(default_factory=dict)
    blur: str = ""
    blur_seed: int = 0
    pick: float = 0.0
    sentence: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def draw_libero_shift(shift: Shift, task: SuiteTask, seed: int, said: str = "") -> LiberoDraw:
    """Draw the episode of a seed; reads the task's file, builds nothing.

    Args:
        said: the sentence to say otherwise, when it is not the task's own.
    """
    said = said or task.sentence
    drawn: dict[str, Any] = {}
    for axis in LIBERO_AXES:
        if not shift.acts_on(axis):
            continue
        rng = axis_generator(f"{task.suite}/{task.name}/{axis}", seed)
        names = object_names(task) if axis == "object_layout" else ()
        for dial in LIBERO_DIALS:
            if dial.axis == axis:
                value = turn_dial(dial, shift.level, len(names), rng)
                drawn[dial.name] = dict(zip(names, value, strict=True)) if dial.each_item else value
        if axis == "texture":
            drawn["textures"] = _textures(drawn["swap"], rng)
        elif axis == "distractors":
            drawn["place_seed"] = int(rng.integers(2**32))
            drawn["distractors"] = _distractors(round(drawn["things"]), drawn["vivid"], rng)
        elif axis == "sensor_noise":
            drawn["blur"], drawn["blur_seed"] = BLURS[int(rng.integers(len(BLURS)))], int(rng.integers(2**32))
        elif axis == "paraphrase":
            drawn["pick"] = float(rng.random())
            drawn["sentence"] = choose_wording(wordings(said), drawn["wording"], drawn["pick"]) or said
    return LiberoDraw(**drawn)


def wordings(said: str) -> dict[str, tuple[str, ...]]:
    """The ways to say a sentence by kind: held_out, reworded, free, from the most familiar to the most foreign."""
    return {"held_out": tuple(split(said)["held_out"]), "reworded": reworded(said), "free": free(said)}


def object_names(task: SuiteTask) -> tuple[str, ...]:
    """What can be moved about in the task's scene, as its file names it."""
    found = re.search(r"\(:objects\s+(.*?)\)", task.bddl_file.read_text(), re.DOTALL)
    lines = re.findall(r"([\w ]+?)\s+-\s+\w+", found.group(1)) if found else []
    return tuple(name for line in lines for name in line.split())


def _textures(share: float, rng: np.random.Generator) -> dict[str, str]:
    worn = {}
    for surface, files in TEXTURES.items():
        swapped, file = rng.random() < share, files[int(rng.integers(len(files)))]
        if swapped:
            worn[surface] = file
    return worn


def _distractors(count: int, share: float, rng: np.random.Generator) -> tuple[Distractor, ...]:
    chosen = []
    for thing in rng.permutation(len(THINGS))[:count]:  # more of them begin with the same
        colours = VIVID if rng.random() < share else NEUTRAL
        rgb = colours[int(rng.random() * len(colours))]
        chosen.append(Distractor(int(thing), float(rng.uniform(-np.pi, np.pi)), rgb))
    return tuple(chosen)
