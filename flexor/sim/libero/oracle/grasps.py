"""Where each kind of object is taken hold of: candidates in the world, for the object as it lies now."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.oracle.motion import DOWN, UP, about, turned
from flexor.sim.libero.oracle.shapes import Shapes
from flexor.sim.libero.stage import Stage

WRIST_HEIGHT, WRIST_OFFSET = 0.204, 0.088  # m of the last joints over the grip, and behind it
UPPER_ARM, FOREARM, ELBOW_CORNER = 0.327, 0.393, 0.21  # m between the joints; rad of the elbow's offset, at the wrist
LEAST_BEND, ALONG_FLAW = 0.35, 0.1  # rad between hand and forearm; m for a radian less
SHORTEST, LONGEST = 0.27, 0.66  # m from shoulder to wrist that the arm is asked for
INSETS = (0.0, 0.010)  # m that a wall may be off the middle of the hand when the fingers begin to close
SKEWS = (0.0, 0.3, -0.3, 0.6, -0.6)  # rad that the fingers may be off the axis of a long thing: it turns into them
LEAN, LEAN_FLAW = 0.45, 0.10  # rad that the hand may lean outwards over a rim; m that it would rather go than that
LEAN_RISE = 0.007  # m that it then takes hold higher, for its outer finger
TILT, TILT_FLAW = 0.35, 0.03  # rad that the hand may tilt across its fingers where it would be too far or near upright
COMMITTED = 0.035  # m from a grasp at which no other is thought of any more
TURN_FLAW = 0.10  # m that the hand would rather go than turn by a radian
SIDE_FLAW = 0.04  # m that it would rather go than take a rim on its right, where the left one is as good
LEFTMOST = np.pi / 3  # rad: the farthest that the hand turns to the right, so that a quarter turn is always to the left
FAR_ROUND = 1.8  # rad of the hand about the vertical
SPAN = 0.072  # m: the widest thing that is taken between the fingers, which open to 0.08
TIP = 0.010  # m from the point between the fingers to their tips
PALM = 0.026  # m from that point up to where the hand begins, with room to spare
FINGER_SWEEP = (0.014, 0.024, 0.034, 0.044, 0.055)  # m from the grip's middle: what a finger passes when it closes
LEAST_ROOM, CROWDED = 0.004, 0.1  # m; m that the hand would rather go than have one point in something else
# Points under the open hand in its own frame, m: under what its fingers pass when they close, its palm and its wrist.
_SIDES = (-1, 1)
_FINGERS = [(s * a, b, TIP - LEAST_ROOM) for s in _SIDES for a in FINGER_SWEEP for b in (-0.01, 0.01)]
_PALM = [(s * a, b, -0.038) for s in _SIDES for a in (0.05, 0.066, 0.082, 0.098) for b in (-0.02, 0.0, 0.02)]
_HAND = np.array(_FINGERS + _PALM)
# The same of the wrist, from its axis, m, level and in the world: a round thing about the hand's axis and behind it.
_RING = 0.06 * np.array([(np.cos(angle), np.sin(angle), 0.0) for angle in np.arange(8) * np.pi / 4])
WRIST_LOW = 0.135  # m of the wrist's lower side over the grip


@dataclass(frozen=True, slots=True)
class Rim:
    """A hollow thing is pinched by its wall.

    Attributes:
        radius: of the wall's middle, m.
        middle: of the rim, in the thing's own frame, x and y in m.
        depth: of the grip below the rim, m.
        angles: directions from the middle at which it can be pinched, in the thing's own frame, rad.
    """

    radius: float
    depth: float
    angles: tuple[float, ...] = tuple(np.arange(16) * np.pi / 8)
    middle: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Span:
    """A solid thing is taken across its middle.

    Attributes:
        depth: of the grip below its top, m, at most.
        axes: own axes (0 x, 1 y, 2 z) along which the fingers may close; of none, whichever are narrow enough.
        middle: where it is taken, in its own frame, m; of nothing, the middle of its box.
    """

    depth: float = PALM
    axes: tuple[int, ...] = ()
    middle: tuple[float, float, float] | None = None


GRIPS: dict[str, Rim | Span] = {
    "akita_black_bowl": Rim(0.0485, 0.016),
    "white_bowl": Rim(0.0485, 0.016),
    "glazed_rim_porcelain_ramekin": Rim(0.040, 0.016),
    "plate": Rim(0.064, 0.006),
    "porcelain_mug": Rim(0.043, 0.020, middle=(0.0133, 0.0)),
    "white_yellow_mug": Rim(0.048, 0.020, middle=(-0.0185, 0.0)),
    "red_coffee_mug": Rim(0.037, 0.020, middle=(-0.0175, 0.0)),
    "moka_pot": Span(0.008, (0, 1), (0.0, 0.0, 0.0)),
    "chefmate_8_frypan": Span(0.015, (1,), (0.160, 0.0, 0.044)),
}
"""By kind; anything else is a Span as it is."""


@dataclass(frozen=True, slots=True)
class Grasp:
    """A way to take hold.

    Attributes:
        point: of the grip, [3] m.
        rotation: of the hand, [3, 3].
        yaw: of the hand about the vertical, from its nominal pose, rad.
        flaw: what speaks against it, in metres that the hand would rather go.
    """

    point: NDArray[np.float64]
    rotation: NDArray[np.float64]
    yaw: float
    flaw: float = 0.0


def kind(name: str) -> str:
    """akita_black_bowl_2 -> akita_black_bowl."""
    return re.sub(r"_\d+$", "", name)


def grasps(stage: Stage, shapes: Shapes, name: str) -> list[Grasp]:
    """Every way to take hold of an object as it lies now, from above."""
    grip = GRIPS.get(kind(name), Span())
    low, high = shapes.box(name)
    if isinstance(grip, Rim):
        found = _rim_grasps(stage, name, grip, float(high[2]))
    else:
        found = _span_grasps(stage, shapes, name, grip, float(low[2]), float(high[2]))
    return found + [_tilted(grasp, tilt) for grasp in found if _strain(stage, grasp) for tilt in (TILT, -TILT)]


def best_grasp(stage: Stage, shapes: Shapes, name: str, move: NDArray[np.float64] | None = None) -> Grasp:
    """The way to take hold that has room for the hand, turns it least, and is on its left.

    Where the hand is does not matter until it is near one: who learns from this sees one answer for one scene, not
    another one for every way to it.

    Args:
        move: where the object will be carried, from where it is, [3] m: there has to be room for the hand there too.
    """
    grip, rotation = stage.grip_position(), stage.grip_rotation()
    found = grasps(stage, shapes, name)
    at_hand = min(found, key=lambda grasp: _distance(grasp, grip, rotation))
    if _distance(at_hand, grip, rotation) < COMMITTED:
        return _shorter(at_hand, rotation)
    best, least = None, np.inf
    for grasp, cost in sorted(((grasp, _inconvenience(stage, grasp)) for grasp in found), key=lambda known: known[1]):
        if cost >= least:
            break
        hand = _hand(stage, grasp)
        cost += 3.0 * CROWDED * shapes.crowding(hand, LEAST_ROOM, name)
        if move is not None and cost < least:
            cost += CROWDED * shapes.crowding(hand + move, LEAST_ROOM, name)
        if cost < least:
            best, least = grasp, cost
    assert best is not None
    return _shorter(best, rotation)


def _shorter(grasp: Grasp, rotation: NDArray[np.float64]) -> Grasp:
    """The same with the fingers the other way round where that is less to turn, and not too far for the last joint."""
    other = grasp.rotation * np.array([-1.0, -1.0, 1.0])
    round_, other_round = (abs(float(np.arctan2(-turn[0, 0], turn[1, 0]))) for turn in (grasp.rotation, other))
    nearer = np.trace(other @ rotation.T) > np.trace(grasp.rotation @ rotation.T)
    if round_ > FAR_ROUND or (nearer and other_round < FAR_ROUND):
        return replace(grasp, rotation=other)
    return grasp


def _hand(stage: Stage, grasp: Grasp) -> NDArray[np.float64]:
    """Points under hand and wrist at a grasp, [n, 3] m."""
    back = stage.data.body("robot0_link1").xpos - grasp.point
    back = np.append(back[:2] / np.hypot(*back[:2]), 0.0)
    axis = grasp.point - WRIST_LOW * grasp.rotation[:, 2]
    return np.concatenate([grasp.point + _HAND @ grasp.rotation.T, axis + _RING, axis + WRIST_OFFSET * back + _RING])


def _distance(grasp: Grasp, grip: NDArray[np.float64], rotation: NDArray[np.float64]) -> float:
    """How far the hand is from a grasp, m; a radian counts as 5 cm, and its fingers may be the other way round."""
    alike = max(abs(float(rotation[:, 0] @ grasp.rotation[:, 0])), 0.0)
    lean = float(rotation[:, 2] @ grasp.rotation[:, 2])
    return float(np.linalg.norm(grasp.point - grip)) + 0.05 * float(
        np.arccos(min(alike, 1.0)) + np.arccos(np.clip(lean, -1.0, 1.0))
    )


def _inconvenience(stage: Stage, grasp: Grasp) -> float:
    """What speaks against a grasp before its surroundings are looked at, in metres that the hand would rather go."""
    return TURN_FLAW * abs(grasp.yaw) + grasp.flaw + 10.0 * _strain(stage, grasp)


def _rim_grasps(stage: Stage, name: str, grip: Rim, top: float) -> list[Grasp]:
    frame = stage.rotation(name)
    middle = stage.position(name) + frame @ np.array([*grip.middle, 0.0])
    seen = frame if any(grip.middle) else np.eye(3)  # nobody can see how a round thing is turned
    found = []
    for angle in grip.angles:
        outward = seen @ np.array([np.cos(angle), np.sin(angle), 0.0])
        outward /= np.hypot(*outward[:2])
        for inset in INSETS:
            point = np.append(middle[:2] + (grip.radius - inset) * outward[:2], top - grip.depth)
            upright = _grasp(point, outward, 2.0 * inset + SIDE_FLAW * (1.0 - outward[1]) / 2.0)
            leaning = about(np.cross(UP, outward), LEAN) @ upright.rotation
            found += [upright, Grasp(point + LEAN_RISE * UP, leaning, upright.yaw, upright.flaw + LEAN_FLAW)]
    return found


def _span_grasps(stage: Stage, shapes: Shapes, name: str, grip: Span, low: float, high: float) -> list[Grasp]:
    frame, (near, far) = stage.rotation(name), shapes.own_box(name)
    middle = stage.position(name) + frame @ np.asarray(grip.middle or (near + far) / 2)
    height = max(min(middle[2], high), high - grip.depth, low + TIP)
    level = [axis for axis in range(3) if abs(frame[2, axis]) < 0.7]
    narrow = [axis for axis in level if far[axis] - near[axis] < SPAN]
    axes = grip.axes or narrow or level
    point = np.append(middle[:2], height)
    long = max(far[axis] - near[axis] for axis in level) > 1.5 * min(far[axis] - near[axis] for axis in axes)
    return [
        _grasp(point, turned(skew) @ DOWN.T @ frame[:, axis], 0.1 * abs(skew))
        for axis in axes
        for skew in (SKEWS if long else (0.0,))
    ]


def _grasp(point: NDArray[np.float64], opening: NDArray[np.float64], flaw: float = 0.0) -> Grasp:
    """The grasp whose fingers open along `opening` (seen from above), turned as little as that allows."""
    yaw = _wrapped(float(np.arctan2(-opening[0], opening[1])))
    return Grasp(point, turned(yaw), yaw, flaw)


def _tilted(grasp: Grasp, tilt: float) -> Grasp:
    """The same with the hand tilted about the line between its fingers: the wrist comes nearer, or goes farther."""
    rotation = about(grasp.rotation[:, 0], tilt) @ grasp.rotation
    return replace(grasp, rotation=rotation, flaw=grasp.flaw + TILT_FLAW)


def _wrapped(yaw: float) -> float:
    """The same opening direction within half a turn, from LEFTMOST to the right of the nominal one."""
    return (yaw + LEFTMOST) % np.pi - LEFTMOST


def _strain(stage: Stage, grasp: Grasp) -> float:
    """How far a grasp is from what the arm does easily, m.

    The wrist can be too far from the shoulder, where the arm is straight, or too near, where it is folded up; or the
    hand goes on along the forearm, and the last joints turn about one axis.
    """
    shoulder, axis = stage.data.body("robot0_link1").xpos, grasp.rotation[:, 2]
    back = shoulder - grasp.point
    back -= (back @ axis) * axis
    way = grasp.point - WRIST_HEIGHT * axis + WRIST_OFFSET * back / np.linalg.norm(back) - shoulder
    far = float(np.linalg.norm(way))
    level = float(np.hypot(*way[:2]))
    corner = (FOREARM**2 + far**2 - UPPER_ARM**2) / (2.0 * FOREARM * far)
    pitch = np.arctan2(way[2], level) - np.arccos(np.clip(corner, -1.0, 1.0)) - ELBOW_CORNER  # of the forearm, upwards
    hand = np.arctan2(axis[2], float(axis[:2] @ way[:2]) / level)
    return max(0.0, far - LONGEST, SHORTEST - far) + ALONG_FLAW * max(0.0, LEAST_BEND - float(pitch - hand))
