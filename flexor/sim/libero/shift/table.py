"""How far each axis of domain shift goes in LIBERO's suites at each level, as one table of dials.

First guesses, within the ranges of LIBERO-Plus where it has the axis: that benchmark turns one axis at a time, here all
are turned at once. No policy has been used to tune them.
"""

from __future__ import annotations

from flexor.sim.shift_table import Dial

NEUTRAL = ((0.50, 0.50, 0.52), (0.36, 0.24, 0.16), (0.88, 0.62, 0.68), (0.44, 0.44, 0.22))
VIVID = ((0.85, 0.12, 0.10), (0.10, 0.25, 0.85), (0.15, 0.65, 0.20), (0.95, 0.80, 0.10), (0.50, 0.15, 0.65))
"""Colours of distractors: quiet ones, and those of things that a sentence might mean."""

LIBERO_DIALS = (
    Dial(
        "camera_pose",
        "azimuth",
        "degrees",
        "the agent camera goes round the middle of its view by",
        (2.0, 2.0),
        (8.0, 4.0),
        (18.0, 8.0),
    ),
    Dial(
        "camera_pose",
        "elevation",
        "degrees",
        "the agent camera rises, round the same middle, by",
        (1.0, 1.0),
        (3.0, 2.0),
        (6.0, 3.0),
    ),
    Dial(
        "camera_pose",
        "distance",
        "x",
        "the agent camera stands further from it by",
        (0.02, 0.02),
        (0.08, 0.05),
        (0.18, 0.08),
    ),
    Dial(
        "camera_pose",
        "agent_turn",
        "degrees, right up back",
        "the agent camera is turned about its own axes by",
        ((0.3, 0.4, 0.4), 0.3),
        ((1.0, 1.5, 1.5), 0.7),
        ((2.0, 3.0, 3.0), 1.2),
    ),
    Dial(
        "camera_pose",
        "wrist_move",
        "m, right up back",
        "the wrist camera sits further along its own axes by",
        ((0.0015, 0.0, 0.0), 0.0007),
        ((0.0035, 0.0015, 0.0), 0.0017),
        ((0.006, 0.003, 0.0), 0.0025),
    ),
    Dial(
        "camera_pose",
        "wrist_turn",
        "degrees, right up back",
        "the wrist camera is turned about its own axes by",
        ((0.2, 0.0, 0.4), 0.2),
        ((0.6, 0.3, 1.0), 0.5),
        ((1.2, 0.6, 2.0), 0.8),
    ),
    Dial("light", "lamp", "x", "the lamps are brighter by", (-0.08, 0.06), (-0.25, 0.12), (-0.40, 0.15)),
    Dial("light", "ambient", "x", "the light from everywhere is brighter by", (0.0, 0.07), (-0.1, 0.15), (-0.2, 0.2)),
    Dial("light", "warmth", "x", "red is brighter, and blue darker, by", (0.04, 0.02), (0.12, 0.05), (0.2, 0.08)),
    Dial(
        "light",
        "lean",
        "x y z",
        "the direction of the lamps is moved by",
        ((0.15, 0.1, 0.0), 0.07),
        ((0.4, 0.2, 0.0), 0.2),
        ((0.7, 0.4, 0.0), 0.3),
    ),
    Dial(
        "texture",
        "table_tone",
        "x, r g b",
        "what things stand on is brighter by",
        ((-0.06, -0.03, 0.02), 0.03),
        ((-0.15, -0.08, 0.05), 0.07),
        ((-0.25, -0.12, 0.1), 0.12),
    ),
    Dial(
        "texture",
        "room_tone",
        "x, r g b",
        "floor and walls are brighter by",
        ((-0.05, -0.05, 0.0), 0.05),
        ((-0.12, -0.12, -0.05), 0.1),
        ((-0.2, -0.2, -0.1), 0.15),
    ),
    Dial(
        "texture",
        "swap",
        "share",
        "how many of table, floor and walls have another texture of LIBERO's",
        (0.0, 0.0),
        (0.4, 0.0),
        (1.0, 0.0),
    ),
    Dial(
        "object_layout",
        "moves",
        "m, x y of each object",
        "objects stand further along the table's axes by, at most",
        ((0.0, 0.0), 0.012),
        ((0.0, 0.0), 0.03),
        ((0.0, 0.0), 0.05),
        each_item=True,
    ),
    Dial("distractors", "things", "number", "other things on the table", (1.0, 0.0), (2.0, 0.0), (4.0, 0.0)),
    Dial(
        "distractors",
        "vivid",
        "share",
        "how many of them are brightly coloured",
        (0.0, 0.0),
        (0.3, 0.0),
        (0.6, 0.0),
    ),
    Dial(
        "start_pose",
        "joints",
        "rad, joints 1 to 7",
        "the arm starts turned further by",
        ((0.03, 0.0, 0.0, 0.02, 0.0, 0.02, 0.02), 0.02),
        ((0.08, 0.0, 0.0, 0.05, 0.0, 0.05, 0.05), 0.04),
        ((0.14, 0.0, 0.0, 0.09, 0.0, 0.08, 0.08), 0.06),
    ),
    Dial(
        "sensor_noise",
        "severity",
        "of LIBERO-Plus' 10",
        "the agent camera's frames are blurred, fogged or bent by",
        (0.7, 0.3),
        (2.0, 0.7),
        (4.0, 1.5),
    ),
    Dial(
        "sensor_noise",
        "grain",
        "of 255",
        "standard deviation of what is added to each pixel",
        (2.0, 0.0),
        (5.0, 0.0),
        (9.0, 0.0),
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
    Dial("friction", "friction", "x", "what rubs rubs more by", (-0.1, 0.07), (-0.3, 0.14), (-0.4, 0.15)),
    Dial("mass", "mass", "x", "objects are heavier by", (0.1, 0.1), (0.4, 0.2), (0.8, 0.3)),
    Dial(
        "action_delay", "delay", "control steps", "actions reach the arm later by", (1.0, 0.0), (1.0, 0.0), (2.0, 0.0)
    ),
    Dial("action_noise", "gain", "x", "the arm goes further than told by", (-0.05, 0.02), (-0.14, 0.045), (-0.2, 0.06)),
    Dial(
        "action_noise",
        "drift",
        "units of action, x y z",
        "the arm is pushed aside all the time by",
        ((0.02, 0.02, -0.007), 0.007),
        ((0.05, 0.05, -0.025), 0.017),
        ((0.07, 0.07, -0.035), 0.025),
    ),
    Dial(
        "action_noise",
        "jitter",
        "units of action",
        "standard deviation of what is added at each step",
        (0.03, 0.0),
        (0.07, 0.0),
        (0.1, 0.0),
    ),
)

LIBERO_AXES = tuple(dict.fromkeys(dial.axis for dial in LIBERO_DIALS))

TEXTURES = {
    "table": ("rustic_floor", "table_light_wood", "gray_ceramic_tile", "dapper_gray_floor", "canvas_sky_blue"),
    "floor": ("dark_floor_texture", "rustic_floor", "white_marble_floor", "brown_ceramic_tile", "light_floor"),
    "walls": ("light_blue_wall", "dark_blue_wall", "gray_plaster", "yellow_linen_wall_texture", "stucco_wall"),
}
"""Files of LIBERO's own textures, by the surface that may wear one."""

BLURS = ("motion", "gaussian", "zoom", "fog", "glass")
"""What may lie between the agent camera and its frames: LIBERO-Plus' five."""

BLUR_PER_SEVERITY = {"motion": 3.0, "gaussian": 0.5, "zoom": 0.03, "fog": 0.08, "glass": 0.8}
"""What one unit of severity is: px of a streak, px of sigma, share of enlargement, share of white, px of displacement,
of a frame of 256 px."""
