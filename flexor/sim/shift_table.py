"""How far each axis of domain shift goes at each level, as one table of dials.

A dial is a number (or a few) of which 0 changes nothing. At a level it has a fixed part, the same in every episode of
that level (this workplace differs from the one where the policy was trained: there is something to learn), and a
spread, drawn for each episode uniformly from -spread to +spread around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Numbers = float | tuple[float, ...]
Amount = tuple[Numbers, Numbers]
"""(fixed, spread) of a dial at a level; both have the dial's shape, or one number stands for all."""

LEVELS = ("none", "low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Dial:
    """One thing that a shift turns.

    Attributes:
        axis: it is drawn and switched together with the other dials of its axis.
        name: also its attribute in flexor.sim.shift_draw.ShiftDraw.
        unit: of the numbers, for people.
        meaning: what it turns, for people.
        low, medium, high: how far at each level.
        each_item: one number is drawn for every item of the scene.
    """

    axis: str
    name: str
    unit: str
    meaning: str
    low: Amount
    medium: Amount
    high: Amount
    each_item: bool = False

    def amount(self, level: str) -> Amount:
        """(fixed, spread) at "low", "medium" or "high"."""
        return {"low": self.low, "medium": self.medium, "high": self.high}[level]


DIALS = (
    Dial("light", "lamp", "x", "the lamp is brighter by", (-0.084, 0.056), (-0.24, 0.11), (-0.29, 0.12)),
    Dial(
        "light", "ambient", "x", "the light from everywhere is brighter by", (0.0, 0.07), (-0.073, 0.14), (-0.11, 0.15)
    ),
    Dial("light", "warmth", "x", "red is brighter, and blue darker, by", (0.042, 0.021), (0.12, 0.045), (0.15, 0.052)),
    Dial(
        "light",
        "lean",
        "x y z",
        "the direction of the lamp is moved by",
        ((0.14, 0.07, 0.0), 0.07),
        ((0.35, 0.17, 0.0), 0.17),
        ((0.43, 0.22, 0.0), 0.21),
    ),
    Dial(
        "table_colour",
        "table_rgb",
        "r g b",
        "the table's colour is moved by",
        ((-0.042, -0.021, 0.014), 0.021),
        ((-0.1, -0.052, 0.035), 0.045),
        ((-0.13, -0.065, 0.042), 0.052),
    ),
    Dial(
        "object_colour",
        "hue",
        "turns",
        "the hue of each item is moved by",
        (0.007, 0.0056),
        (0.014, 0.013),
        (0.015, 0.015),
        each_item=True,
    ),
    Dial("object_colour", "saturation", "x", "colours are stronger by", (-0.042, 0.028), (-0.1, 0.055), (-0.13, 0.062)),
    Dial(
        "object_colour", "brightness", "x", "colours are brighter by", (-0.035, 0.028), (-0.086, 0.055), (-0.11, 0.062)
    ),
    Dial(
        "camera_pose",
        "agent_move",
        "m, x y z",
        "the agent camera stands further along the table's axes by",
        ((0.0, 0.007, 0.0035), 0.0028),
        ((-0.013, 0.025, 0.015), 0.0055),
        ((-0.019, 0.032, 0.019), 0.0064),
    ),
    Dial(
        "camera_pose",
        "agent_turn",
        "degrees, right up back",
        "the agent camera is turned about its own axes by",
        ((0.21, 0.35, 0.35), 0.14),
        ((0.74, 1.4, 1.4), 0.35),
        ((0.95, 1.8, 1.8), 0.42),
    ),
    Dial(
        "camera_pose",
        "wrist_move",
        "m, right up back",
        "the wrist camera sits further along its own axes by",
        ((0.0014, 0.0, 0.0), 0.0007),
        ((0.0035, 0.0015, 0.0), 0.0017),
        ((0.0044, 0.0022, 0.0), 0.0021),
    ),
    Dial(
        "camera_pose",
        "wrist_turn",
        "degrees, right up back",
        "the wrist camera is turned about its own axes by",
        ((0.21, 0.0, 0.35), 0.14),
        ((0.52, 0.29, 0.86), 0.35),
        ((0.66, 0.44, 1.1), 0.42),
    ),
    Dial("object_size", "size", "x", "blocks and puck are larger by", (0.028, 0.014), (0.076, 0.027), (0.096, 0.031)),
    Dial("friction", "friction", "x", "what rubs rubs more by", (-0.1, 0.07), (-0.3, 0.14), (-0.38, 0.15)),
    Dial("distractors", "things", "number", "other things on the table", (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)),
    Dial(
        "distractors",
        "vivid",
        "share",
        "how many of them are as brightly coloured as items",
        (0.0, 0.0),
        (0.3, 0.0),
        (0.5, 0.0),
    ),
    Dial(
        "start_pose",
        "joints",
        "rad, joints 1 to 7",
        "the arm starts turned further by",
        ((0.035, 0.0, 0.0, 0.021, 0.0, 0.021, 0.021), 0.014),
        ((0.1, 0.0, 0.0, 0.067, 0.0, 0.052, 0.052), 0.035),
        ((0.13, 0.0, 0.0, 0.086, 0.0, 0.064, 0.066), 0.042),
    ),
    Dial(
        "action_delay", "delay", "control steps", "actions reach the arm later by", (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)
    ),
    Dial(
        "action_noise",
        "gain",
        "x",
        "the arm goes further than told by",
        (-0.056, 0.021),
        (-0.14, 0.045),
        (-0.17, 0.051),
    ),
    Dial(
        "action_noise",
        "drift",
        "units of action, x y z",
        "the arm is pushed aside all the time by",
        ((0.021, 0.021, -0.007), 0.007),
        ((0.052, 0.052, -0.025), 0.017),
        ((0.062, 0.062, -0.031), 0.021),
    ),
    Dial(
        "action_noise",
        "jitter",
        "units of action",
        "standard deviation of what is added at each step",
        (0.028, 0.0),
        (0.069, 0.0),
        (0.084, 0.0),
    ),
    Dial(
        "paraphrase",
        "wording",
        "shares: held out, reworded, free",
        "how the task is said",
        ((1.0, 0.0, 0.0), 0.0),
        ((0.3, 0.7, 0.0), 0.0),
        ((0.0, 0.7, 0.3), 0.0),
    ),
)

AXES = tuple(dict.fromkeys(dial.axis for dial in DIALS))


def markdown(dials: Sequence[Dial] = DIALS) -> str:
    """The table for people: a row a dial, a column a level, as `fixed ± spread`."""
    lines = ["| axis | what is turned | unit | low | medium | high |", "|---|---|---|---|---|---|"]
    for dial in dials:
        amounts = " | ".join(_amount(*dial.amount(level)) for level in LEVELS[1:])
        lines.append(f"| `{dial.axis}` | {dial.meaning} (`{dial.name}`) | {dial.unit} | {amounts} |")
    return "\n".join(lines)


def _amount(fixed: Numbers, spread: Numbers) -> str:
    middle, around = (_numbers(part) for part in (fixed, spread))
    return middle if around == "0" else f"{middle} ± {around}"


def _numbers(value: Numbers) -> str:
    return " ".join(f"{number:g}" for number in (value if isinstance(value, tuple) else (value,)))
