"""The room that things take, as boxes: what the arm has to stay above, and where an object can be taken hold of."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.stage import Stage

Box = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper corner, [3] m each."""
COLUMN = 0.25  # m over a point that have to be free
FARTHEST_OUT = 0.15  # m
_COMPASS = np.array([(np.cos(angle), np.sin(angle), 0.0) for angle in np.arange(8) * np.pi / 4])
_PATH_STEP = 0.02  # m between the points of a path that are looked at


class Shapes:
    """The colliding geoms of everything in a scene but the robot, as boxes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        model = stage.model
        roots = model.body_rootid[model.geom_bodyid]
        arm = [int(model.body_rootid[model.body(name).id]) for name in ("robot0_base", "gripper0_right_gripper")]
        solid = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
        boxed = model.geom_type != int(mujoco.mjtGeom.mjGEOM_PLANE)
        self._geoms = np.flatnonzero(solid & boxed & ~np.isin(roots, arm))
        self._arm = set(np.flatnonzero(np.isin(roots, arm)).tolist())
        self._roots = roots[self._geoms]
        self._centres, self._halves = model.geom_aabb[self._geoms, :3], model.geom_aabb[self._geoms, 3:]

    def boxes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """World-aligned boxes around every geom as it is now: lower and upper corners, [n, 3] m each."""
        data = self._stage.data
        rotations = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        centres = data.geom_xpos[self._geoms] + np.einsum("nij,nj->ni", rotations, self._centres)
        reach = np.einsum("nij,nj->ni", np.abs(rotations), self._halves)
        return centres - reach, centres + reach

    def box(self, name: str) -> Box:
        """The world-aligned box around a thing."""
        mine = self._roots == self._stage.body(name)
        low, high = self.boxes()
        return low[mine].min(axis=0), high[mine].max(axis=0)

    def own_box(self, name: str) -> Box:
        """The box around a thing in its own frame; the same wherever it is."""
        data, body = self._stage.data, self._stage.body(name)
        mine = np.flatnonzero(self._roots == body)
        frame, origin = data.xmat[body].reshape(3, 3), data.xpos[body]
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        corners = []
        for k in mine:
            rotation = data.geom_xmat[self._geoms[k]].reshape(3, 3)
            world = data.geom_xpos[self._geoms[k]] + (self._centres[k] + signs * self._halves[k]) @ rotation.T
            corners.append((world - origin) @ frame)
        points = np.concatenate(corners)
        return points.min(axis=0), points.max(axis=0)

    def top_between(
        self, a: NDArray[np.float64], b: NDArray[np.float64], margin: float, without: tuple[str, ...] = ()
    ) -> float:
        """Height of the highest thing within `margin` m of the way from a to b (seen from above), m."""
        low, high = self.boxes()
        skip = [self._stage.body(name) for name in without]
        keep = ~np.isin(self._roots, skip)
        low, high = low[keep], high[keep]
        way = b[:2] - a[:2]
        count = 2 + int(np.hypot(*way) / _PATH_STEP)
        points = a[:2] + np.linspace(0.0, 1.0, count)[:, None] * way
        inside = (points[:, None] > low[:, :2] - margin).all(axis=2) & (points[:, None] < high[:, :2] + margin).all(
            axis=2
        )
        hit = inside.any(axis=0)
        return float(high[hit, 2].max()) if hit.any() else -np.inf

    def way_out(self, name: str, margin: float) -> NDArray[np.float64]:
        """The shortest level way from under whatever is over a thing, [3] m; zero when nothing is.

        What is less than `margin` m beside its column counts as over it; what lies about it on its own height does not.
        """
        low, high = self.box(name)
        middle, half = (low + high) / 2, (high - low) / 2
        points = np.array([*middle[:2], high[2] + margin]) + _COMPASS * half
        if not self.crowding(points, 0.0, name):
            return np.zeros(3)
        for size in np.arange(0.01, FARTHEST_OUT, 0.01):
            for toward in _COMPASS:
                if not self.crowding(points + size * toward, margin, name):
                    return size * toward
        return np.zeros(3)

    def crowding(self, points: NDArray[np.float64], room: float, without: str) -> int:
        """How many of some points [n, 3] cannot be come to from above: in, below, or nearer than `room` m to things.

        One thing does not count. Boxes are taken as they are turned.
        """
        data = self._stage.data
        low, high = self.boxes()
        near = (low < points.max(axis=0) + np.array([room, room, COLUMN])).all(axis=1)
        near &= (high > points.min(axis=0) - room).all(axis=1)
        near &= self._roots != self._stage.body(without)
        geoms = self._geoms[near]
        rotations = data.geom_xmat[geoms].reshape(-1, 3, 3)
        begin = np.einsum("npj,njk->npk", points[None] - data.geom_xpos[geoms][:, None], rotations)
        begin -= self._centres[near][:, None]
        way = COLUMN * rotations[:, 2, :][:, None]  # straight up, as each box sees it
        half = self._halves[near][:, None] + room
        with np.errstate(divide="ignore", invalid="ignore"):
            one, two = (-half - begin) / way, (half - begin) / way
        entry, leaving = np.fmin(one, two).max(axis=2), np.fmax(one, two).min(axis=2)
        return int((np.maximum(entry, 0.0) < np.minimum(leaving, 1.0)).any(axis=0).sum())

    def touches(self, name: str) -> bool:
        """Whether a thing rests against anything but the robot."""
        return bool(self._neighbours(name) - self._arm)

    def hangs(self, name: str) -> bool:
        """Whether nothing but the robot touches a thing."""
        neighbours = self._neighbours(name)
        return bool(neighbours) and neighbours <= self._arm

    def way_off(self, name: str) -> NDArray[np.float64]:
        """The level direction off the other objects that one has run into, [3]; zero when it has not."""
        stage, body = self._stage, self._stage.body(name)
        contact, count = stage.data.contact, stage.data.ncon
        roots = stage.model.body_rootid[stage.model.geom_bodyid[contact.geom[:count]]]
        others = [stage.body(other) for other in stage.things if other != name]
        met = (roots == body).any(axis=1) & np.isin(roots, others).any(axis=1)
        way = (stage.position(name) - contact.pos[:count][met]).sum(axis=0) * (1.0, 1.0, 0.0)
        return way / max(1e-6, float(np.linalg.norm(way)))

    def _neighbours(self, name: str) -> set[int]:
        """The geoms that touch a thing."""
        stage, body = self._stage, self._stage.body(name)
        pairs = stage.data.contact.geom[: stage.data.ncon]
        mine = stage.model.body_rootid[stage.model.geom_bodyid[pairs]] == body
        return {int(other) for pair, own in zip(pairs, mine, strict=True) for other in pair[~own] if own.any()}
