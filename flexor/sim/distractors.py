"""Things on the table that no task is about: what they are, and where they stand without being in the way.

They stand still and are lower than whatever is carried over them. A model has them only when its shift does.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.sim.layout import CLEARANCE, LANE_HALF, Layout, distance_to_way, lane_start
from flexor.sim.scenes import CONTACT, SCENES, WORLD_COLLIDES, Scene

PREFIX = "distractor"
PLACES = np.array([[0.34, 0.64], [-0.27, 0.27]])  # m, where their middles may lie: x, then y
GROWTH = 1.25  # items may be so much larger than the layout thinks
TRIES = 200
HUE_GAP = 0.1  # turns of the colour circle between a thing and an item of the scene

NEUTRAL = ((0.50, 0.50, 0.52), (0.36, 0.24, 0.16), (0.88, 0.62, 0.68), (0.44, 0.44, 0.22))


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape: MuJoCo's name, its size (m), and the circle that it fills."""

    shape: str
    size: tuple[float, float, float]
    radius: float


THINGS = (
    Thing("cylinder", (0.028, 0.022, 0.0), 0.028),  # a cup
    Thing("box", (0.045, 0.030, 0.009), 0.054),  # a book
    Thing("sphere", (0.021, 0.0, 0.0), 0.021),  # a ball
    Thing("box", (0.012, 0.050, 0.012), 0.052),  # a bar
    Thing("cylinder", (0.040, 0.008, 0.0), 0.040),  # a lid
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a thing stands: which of THINGS, x and y (m), yaw (rad), colour."""

    thing: int
    x: float
    y: float
    yaw: float
    rgb: tuple[float, float, float]


def height(thing: Thing) -> float:
    """Half its height, m."""
    return {"cylinder": thing.size[1], "box": thing.size[2], "sphere": thing.size[0]}[thing.shape]


def things_xml(away: str = "0 0 -3", group: int = 0) -> str:
    """One body for each of THINGS, as MJCF: unseen bodies that are placed once an episode.

    Args:
        away: where they are as long as they have no place, x y z m; out of reach of everything.
        group: MuJoCo's group of their geoms.
    """
    return "".join(
        f'<body name="{PREFIX}{index}" pos="{away}"><geom name="{PREFIX}{index}" type="{thing.shape}" '
        f'size="{" ".join(map(str, thing.size))}" rgba="0 0 0 0" group="{group}" {WORLD_COLLIDES} {CONTACT}/></body>'
        for index, thing in enumerate(THINGS)
    )


def set_out(model: Any, places: Sequence[Place], ground: float = 0.0) -> None:
    """Put things where they stand, on a surface `ground` m high; the others stay away, as they were built."""
    for place in places:
        body, geom = model.body(f"{PREFIX}{place.thing}"), model.geom(f"{PREFIX}{place.thing}")
        body.pos[:] = (place.x, place.y, ground + height(THINGS[place.thing]))
        body.quat[:] = (np.cos(place.yaw / 2), 0.0, 0.0, np.sin(place.yaw / 2))
        geom.rgba[:] = (*place.rgb, 1.0)


def vivid(scene: Scene) -> tuple[tuple[float, float, float], ...]:
    """The colours of other scenes' items that no item of this scene comes near."""
    own = [_hue(item.rgb) for item in scene.items]
    return tuple(
        item.rgb
        for other in SCENES.values()
        for item in other.items
        if item.movable and all(_gap(_hue(item.rgb), hue) > HUE_GAP for hue in own if hue is not None)
    )


def place_things(scene: Scene, layout: Layout, count: int, share: float, rng: np.random.Generator) -> tuple[Place, ...]:
    """Find `count` things a place beside the items and their lanes; one that finds none stays away.

    Args:
        share: of the things that get a colour of `vivid` instead of a quiet one.
    """
    spots = np.array([layout.poses[item.name][:2] for item in scene.items])
    radii = np.array([GROWTH * item.footprint if item.movable else item.footprint for item in scene.items])
    placed: list[Place] = []
    for thing in rng.permutation(len(THINGS))[:count]:
        colours = vivid(scene) if rng.random() < share else NEUTRAL
        rgb = colours[int(rng.integers(len(colours)))]
        yaw = float(rng.uniform(-np.pi, np.pi))
        radius = THINGS[thing].radius
        for place in rng.uniform(PLACES[:, 0], PLACES[:, 1], (TRIES, 2)):
            gaps = np.linalg.norm(spots - place, axis=1) - radii - radius
            if np.all(gaps > CLEARANCE) and _beside_lanes(scene, layout, place, radius):
                placed.append(Place(int(thing), float(place[0]), float(place[1]), yaw, rgb))
                spots, radii = np.vstack([spots, place]), np.append(radii, radius)
                break
    return tuple(placed)


def _beside_lanes(scene: Scene, layout: Layout, place: NDArray[np.float64], radius: float) -> bool:
    for pushed, goal in scene.lanes:
        start, end = (np.array(layout.poses[name][:2]) for name in (pushed, goal))
        if distance_to_way(place, lane_start(start, end), end) < LANE_HALF + radius:
            return False
    return True


def _hue(rgb: Sequence[float]) -> float | None:
    hue, saturation, _ = colorsys.rgb_to_hsv(*rgb)
    return hue if saturation > 0.25 else None


def _gap(one: float | None, other: float) -> float:
    return 1.0 if one is None else abs((one - other + 0.5) % 1.0 - 0.5)
