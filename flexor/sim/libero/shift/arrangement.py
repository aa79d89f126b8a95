"""Arranges the beginning of a shifted LIBERO episode: objects and arm are elsewhere, other things lie about.

What a draw asks for is shortened until nothing collides and all can be reached; the same draw and scene give the same.
"""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim.distractors import THINGS, Place, set_out
from flexor.sim.layout import distance_to_way
from flexor.sim.libero.neighbours import Pairs, neighbours, piles
from flexor.sim.libero.shift.draw import LiberoDraw
from flexor.sim.libero.stage import Stage
from flexor.sim.shift_draw import Vector

SHARES = (1.0, 0.75, 0.5, 0.25)  # of what was asked for, tried in turn
CLEARANCE = 0.008  # m between objects that were not as near before
ON_FIXTURE = 0.01  # m that what stands on or in a fixture is moved, at most
REACH = 0.78  # m from the robot's base, seen from above; what was further away gets no further
IN_VIEW = 0.86  # m from the robot's base that distractors lie, at most
SUNK = 0.002  # m, deeper contacts of the arm are collisions
BESIDE = 0.04  # m, free room around a distractor, for fingers
AHEAD = 0.2  # m, how far distractors may lie outside of where the objects are
LANE = 0.07  # m, half the width of the ways that stay free
SPOTS = 200  # tried for each distractor
RAY_STEP = 0.012  # m between the rays that look down around a spot
SETTLE_STEPS = 20  # control steps until the objects of LIBERO's starts have fallen into place
FRONT = 0.32  # m around what opens or closes where nothing lies


def ground_height(stage: Stage) -> float:
    """Height of what the objects stand on, m: a table's top, or the floor."""
    return max(0.0, float(stage.env.workspace_offset[2]))  # LIBERO puts the workspace of its floor scenes below it


def arrange(stage: Stage, drawn: LiberoDraw) -> None:
    """From the start that the stage was reset to, to the one of the draw; nothing has settled yet.

    LIBERO's own starts leave objects some centimetres in the air, so what stands on what is found in a scene that has
    settled; objects that are moved begin as they stand there.
    """
    if drawn.moves or drawn.distractors:
        start = stage.start()
        stage.wait(SETTLE_STEPS)
        if drawn.moves:
            move_things(stage, drawn.moves)
        places = find_places(stage, drawn)
        stand = {name: object_joint(stage, name).qpos.copy() for name in stage.things}
        stage.reset(start)
        set_out(stage.model, places, ground_height(stage))
        for name, pose in stand.items() if drawn.moves else ():
            object_joint(stage, name).qpos[:] = pose
            object_joint(stage, name).qvel[:] = 0.0
        stage.env.sim.forward()
    if any(drawn.joints):
        turn_arm(stage, drawn.joints)


def object_joint(stage: Stage, name: str) -> Any:
    """The joint by which an object is free, as data.joint gives it."""
    return stage.data.joint(stage.env.objects_dict[name].joints[-1])


def move_things(stage: Stage, moves: Mapping[str, Vector]) -> dict[str, Vector]:
    """Move each object, together with what stands at or on it; returns how far each was moved, m along x and y."""
    before = neighbours(stage, CLEARANCE)
    fixtures = {stage.body(name) for name in stage.fixtures}
    moved: dict[str, Vector] = {}
    for pile in piles(stage, before):
        bodies = {stage.body(name) for name in pile}
        wanted = np.asarray(moves[pile[0]])
        if any({one, other} & bodies and {one, other} & fixtures for one, other in before):
            wanted = wanted * min(1.0, ON_FIXTURE / max(float(np.abs(wanted).max()), 1e-9))
        share = _first_free(stage, pile, wanted, before)
        moved.update(dict.fromkeys(pile, tuple((wanted * share).tolist())))
    return moved


def _first_free(stage: Stage, pile: list[str], wanted: NDArray[np.float64], before: Pairs) -> float:
    far = [_distance(stage, name) for name in pile]
    start = stage.data.qpos.copy()
    bodies = {stage.body(name) for name in pile}
    held = {pair for pair in before if bodies & set(pair)}
    for share in SHARES:
        for name in pile:
            stage.move(name, wanted * share)
        near = neighbours(stage, CLEARANCE)
        stands = held == {pair for pair in near if bodies & set(pair)}
        reached = all(_distance(stage, name) <= max(REACH, was) for name, was in zip(pile, far, strict=True))
        if stands and reached and not stage.is_done():
            return share
        stage.data.qpos[:] = start
    neighbours(stage, CLEARANCE)  # the simulator's derived values, of how it stands again
    return 0.0


def _distance(stage: Stage, name: str) -> float:
    return float(np.linalg.norm(stage.position(name)[:2] - stage.data.body("robot0_base").xpos[:2]))


def turn_arm(stage: Stage, turns: Vector) -> None:
    """Turn the arm's joints, as far as it touches nothing."""
    robot = stage.model.body("robot0_base").rootid[0]
    done = 0.0
    for share in (*SHARES, 0.0):
        stage.turn_joints(np.asarray(turns) * (share - done))
        done = share
        contact = stage.data.contact
        roots = stage.model.body_rootid[stage.model.geom_bodyid[contact.geom[: stage.data.ncon]]]
        mine = (roots == robot).any(axis=1) & (roots[:, 0] != roots[:, 1])
        if not (mine & (contact.dist[: stage.data.ncon] < -SUNK)).any():
            return


def find_places(stage: Stage, drawn: LiberoDraw) -> tuple[Place, ...]:
    """Find each distractor a place on what the objects stand on, beside everything; one that finds none stays away."""
    rng = np.random.default_rng(drawn.place_seed)
    spots = np.array([stage.position(name)[:2] for name in stage.things])
    low, high = spots.min(axis=0) - AHEAD, spots.max(axis=0) + AHEAD
    taken: list[tuple[NDArray[np.float64], float]] = []
    places: list[Place] = []
    for thing in drawn.distractors:
        radius = THINGS[thing.thing].radius
        for spot in rng.uniform(low, high, (SPOTS, 2)):
            apart = all(np.linalg.norm(spot - other) > radius + size + BESIDE for other, size in taken)
            if apart and _beside_ways(stage, spot, radius) and _bare(stage, spot, radius + BESIDE):
                places.append(Place(thing.thing, float(spot[0]), float(spot[1]), thing.yaw, thing.rgb))
                taken.append((spot, radius))
                break
    return tuple(places)


def _bare(stage: Stage, spot: NDArray[np.float64], radius: float) -> bool:
    """Whether rays from above meet nothing but the ground within a circle that the agent camera sees."""
    if np.linalg.norm(spot - stage.data.body("robot0_base").xpos[:2]) > IN_VIEW:
        return False
    grid = np.arange(-radius, radius + RAY_STEP, RAY_STEP)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    ground = ground_height(stage)
    inside = points[np.linalg.norm(points, axis=1) <= radius + RAY_STEP / 2]
    return all(abs(_height(stage, spot + point, ground) - ground) < 0.004 for point in inside)


def _height(stage: Stage, point: NDArray[np.float64], ground: float) -> float:
    """Height of the highest thing at a point, m, the arm too; the ceiling does not count."""
    above = np.array([*point, ground + 0.7])
    geom = np.zeros(1, np.int32)
    distance = mujoco.mj_ray(stage.model, stage.data, above, np.array([0.0, 0.0, -1.0]), None, 1, -1, geom)
    return above[2] - distance if distance >= 0 else -np.inf


def _beside_ways(stage: Stage, spot: NDArray[np.float64], radius: float) -> bool:
    """Whether the straight ways between what goals speak of stay free, and the room in front of what opens."""
    for part in stage.goal.parts:
        ends = [stage.position(name)[:2] for name in part.names]
        if len(ends) == 2 and distance_to_way(spot, ends[0], ends[1]) < LANE + radius:
            return False
        if part.predicate in ("open", "close") and np.linalg.norm(spot - ends[0]) < FRONT:
            return False
    return True
