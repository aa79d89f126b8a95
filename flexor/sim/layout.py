"""Where an episode begins: item poses, start pose of the arm, and the small differences of look inside shift `none`.

Everything follows from the seed alone, not from the task: one seed is one scene, in which every task can be asked.
The looks vary a little even without shift because a frozen prefix never learns a look later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.sim.scenes import Scene

REGION = np.array([[0.36, 0.60], [-0.24, 0.24]])  # m, where the middles of items may lie: x, then y
CLEARANCE = 0.032  # m, between footprints: room for an open finger
LANE_HALF = 0.085  # m, half the width of a lane: half a puck, half a block and room
LANE_BEHIND = 0.12  # m, by which a lane begins behind the item that is pushed: room for the hand
HAND_REACH = np.array([[0.29, 0.68], [-0.32, 0.32]])  # m, where the hand may stand behind it: x, then y
BLOCK_YAW = 0.3  # rad, either way
JOINT_NOISE = 0.03  # rad, standard deviation of each start joint
COLOUR_NOISE = 0.04  # of full scale, either way
LIGHT_RANGE = (0.40, 0.60)
LAMP_SWAY = 0.15  # of the unit direction, either way
CAMERA_SWAY = 0.006  # m, either way
MAX_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Layout:
    """One drawn beginning.

    Attributes:
        poses: (x, y, yaw) by item name, m and rad.
        joint_offset: float64 [7], rad, added to the rest pose.
        colours: float64 [3] RGB offset by geom-group name ("table" and every item).
        light: diffuse brightness of the lamp.
        lamp_sway: float64 [3], added to the lamp's direction.
        camera_sway: float64 [3], m, added to the agent camera's position.
    """

    poses: dict[str, tuple[float, float, float]]
    joint_offset: NDArray[np.float64]
    colours: dict[str, NDArray[np.float64]]
    light: float
    lamp_sway: NDArray[np.float64]
    camera_sway: NDArray[np.float64]


def draw_layout(scene: Scene, seed: int) -> Layout:
    """Draw the beginning that belongs to a seed.

    Raises:
        ValueError: seed is negative.
        RuntimeError: the items do not fit into the region (a scene with too many of them).
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    rng = np.random.default_rng(seed)
    return Layout(
        poses=_draw_poses(scene, rng),
        joint_offset=rng.normal(0.0, JOINT_NOISE, 7),
        colours={
            name: rng.uniform(-COLOUR_NOISE, COLOUR_NOISE, 3)
            for name in ("table", *(item.name for item in scene.items))
        },
        light=float(rng.uniform(*LIGHT_RANGE)),
        lamp_sway=rng.uniform(-LAMP_SWAY, LAMP_SWAY, 3),
        camera_sway=rng.uniform(-CAMERA_SWAY, CAMERA_SWAY, 3),
    )


def _draw_poses(scene: Scene, rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    radii = np.array([item.footprint for item in scene.items])
    for _ in range(MAX_TRIES):
        spots = rng.uniform(REGION[:, 0], REGION[:, 1], (len(scene.items), 2))
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1) - radii[:, None] - radii[None]
        if np.all(gaps[np.triu_indices(len(radii), 1)] > CLEARANCE) and _lanes_free(scene, spots):
            yaws = rng.uniform(-BLOCK_YAW, BLOCK_YAW, len(radii))
            return {
                item.name: (float(x), float(y), float(yaw) if item.movable else 0.0)
                for item, (x, y), yaw in zip(scene.items, spots, yaws, strict=True)
            }
    raise RuntimeError(f"scene {scene.name!r}: {len(scene.items)} items do not fit into {REGION.tolist()} m")


def _lanes_free(scene: Scene, spots: NDArray[np.float64]) -> bool:
    """Whether every pushed item can be pushed straight to its goal, by a hand that starts behind it."""
    place = dict(zip((item.name for item in scene.items), spots, strict=True))
    for pushed, goal in scene.lanes:
        start = lane_start(place[pushed], place[goal])
        if np.any(start < HAND_REACH[:, 0]) or np.any(start > HAND_REACH[:, 1]):
            return False
        for item in scene.items:
            if (
                item.movable
                and item.name != pushed
                and distance_to_way(place[item.name], start, place[goal]) < LANE_HALF
            ):
                return False
    return True


def lane_start(pushed: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the lane [2] of an item at `pushed` [2] to a goal at `goal` [2] begins: behind the item, m."""
    way = goal - pushed
    return pushed - LANE_BEHIND * way / np.linalg.norm(way)


def distance_to_way(point: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]) -> float:
    """From a point [2] to the segment between two others, m."""
    along = np.clip(np.dot(point - start, end - start) / np.dot(end - start, end - start), 0.0, 1.0)
    return float(np.linalg.norm(point - start - along * (end - start)))
