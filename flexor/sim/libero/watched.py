"""StageScene: a LIBERO task as the failure watches see it, one part of its goal after the other."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim.failure.scene import Aim, Anatomy, Way
from flexor.sim.libero.goal import Part
from flexor.sim.libero.stage import FINGERS, Stage
from flexor.sim.scenes import CAMERAS

ROBOT_ROOT, FINGER_SERVO = "robot0_base", "gripper0_gripper_finger_joint1"
SMALLEST_GAP = 0.002  # m: the rims of mugs and bowls are thin
CLOSING_STEPS = 14  # control steps
COLLISION_SHAPES = np.array([1, 0, 0, 0, 0, 0], dtype=np.uint8)  # simple ones: rays through meshes are slow
WIDE = 0.5  # of a drawer's way: something can be put in
STAY_STEPS = 20  # control steps after the item was held in which a touch of something else is no change of mind


@dataclass(frozen=True, slots=True)
class _Errand:
    """One part of the goal.

    Attributes:
        body: of the item, an id of the model.
        place: where it is to be; empty for work.
        part: what LIBERO says of it; None for a drawer that has to be opened first, although the goal does not say so.
    """

    way: Way
    item: str
    target: str
    body: int
    place: str
    part: Part | None

    def is_done(self, stage: Stage) -> bool:
        """Whether it is so right now."""
        if self.part is not None:
            return self.part.holds(stage)
        joint = stage.model.body_jntadr[self.body]
        way = float(np.abs(stage.model.jnt_range[joint]).max())
        return abs(float(stage.data.qpos[stage.model.jnt_qposadr[joint]])) > WIDE * way


class StageScene:
    """The task of a stage, from the state that the stage is in.

    Its goal's parts are followed in the order of the task file, but a drawer or door is closed when everything is in,
    and opened before. Another part is taken up when the present one is done and let go of, or at once when the robot
    takes hold of another part's item, or touches the drawer, door or knob of another part.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage, model = stage, stage.model
        self._servo = int(model.actuator(FINGER_SERVO).id)
        owners = _body_owners(stage)
        robot = [model.body(root).name == ROBOT_ROOT for root in model.body_rootid]
        self._errands = _errands(stage, owners)
        about = {name for errand in self._errands for name in (errand.item, errand.target) if name}
        free = [body for body in range(model.nbody) if model.body_dofnum[body] == 6]
        self._anatomy = Anatomy(
            model=model,
            data=stage.data,
            owners=tuple(
                owners[body] if body else model.geom(geom).name or "world"
                for geom, body in enumerate(model.geom_bodyid)
            ),
            robot=np.array(robot)[model.geom_bodyid],
            fingers={model.geom(name).id: number for number, names in enumerate(FINGERS) for name in names},
            movable={owners[body]: body for body in free},
            about=frozenset(about),
            ground=_ground(stage, owners),
            smallest_gap=SMALLEST_GAP,
            closing_steps=CLOSING_STEPS,
            cameras=CAMERAS,
            seen_groups=COLLISION_SHAPES,
        )
        self._finished, self._unheld = 0, STAY_STEPS
        self._take_up(next((errand for errand in self._errands if not errand.is_done(stage)), self._errands[0]))

    @property
    def anatomy(self) -> Anatomy:
        """What stays the same."""
        return self._anatomy

    def aim(self, gripped: str | None, touched: Container[str]) -> Aim:
        """What is to be done now; asked once a control step."""
        if len(self._errands) > 1:
            self._turn(gripped, touched)
        present = self._present
        return Aim(present.way, present.item, present.target, self._finished)

    def item_position(self) -> NDArray[np.float64]:
        """Where the item is: an object's frame, the middle of a drawer's, a door's or a knob's mass, [3] m."""
        data, present = self._stage.data, self._present
        return (data.xipos if present.way == "work" else data.xpos)[present.body].copy()

    def target_position(self) -> NDArray[np.float64]:
        """Where it is to be: the frame of an object or a region, [3] m."""
        return self._stage.position(self._present.place) if self._present.place else self.item_position()

    def grip_position(self) -> NDArray[np.float64]:
        """The point between the finger tips, [3] m."""
        return self._stage.grip_position()

    def finger_gap(self) -> float:
        """Between the fingers, m."""
        return float(np.ptp(self._stage.finger_positions()))

    def finger_target(self) -> float:
        """Where the finger servo drives, m; 0 is closed."""
        return round(float(self._stage.data.ctrl[self._servo]), 6)

    def _turn(self, gripped: str | None, touched: Container[str]) -> None:
        stage, present = self._stage, self._present
        self._unheld = 0 if gripped == present.item else self._unheld + 1
        if self._unheld == 0:
            return
        for errand in self._errands:
            if errand is not present and self._is_meant(errand, gripped, touched):
                self._take_up(errand)
                return
        if present.item not in touched and present.is_done(stage):
            left = next((errand for errand in self._errands if not errand.is_done(stage)), None)
            if left is not None:
                self._finished += self._undone
                self._take_up(left)

    def _is_meant(self, errand: _Errand, gripped: str | None, touched: Container[str]) -> bool:
        """Whether the robot has taken up another part: by a grip also one that is done."""
        if errand.item == gripped:
            return True
        changed = self._unheld > STAY_STEPS and errand.way == "work" and errand.item in touched
        return changed and not errand.is_done(self._stage)

    def _take_up(self, errand: _Errand) -> None:
        self._present, self._unheld = errand, STAY_STEPS
        self._undone = not errand.is_done(self._stage)


def _errands(stage: Stage, owners: Sequence[str]) -> list[_Errand]:
    parts = stage.goal.parts
    filled = {stage.body(part.place) for part in parts if part.predicate == "in"}

    def comes_last(part: Part) -> bool:
        return part.predicate == "close" and stage.body(part.thing) in filled

    errands: list[_Errand] = []
    for part in sorted(parts, key=comes_last):
        if part.place:
            joints = stage.joint_names(part.place) if part.predicate == "in" else []
            opened = _work(stage, owners, joints[0], None) if joints else None
            if opened is not None and all(errand.item != opened.item for errand in errands):
                errands.append(opened)
            errands.append(_move(stage, owners, part))
        else:
            errands.append(_work(stage, owners, stage.joint_names(part.thing)[0], part))
    return errands


def _move(stage: Stage, owners: Sequence[str], part: Part) -> _Errand:
    """Something is to be carried to a place, or pushed where the sentence says so."""
    body, on = stage.body(part.thing), _host(stage, part.place)
    target = "" if owners[on] in _ground(stage, owners) else owners[on]
    way: Way = "push" if stage.sentence.startswith("push ") else "carry"
    return _Errand(way, owners[body], target, body, part.place, part)


def _work(stage: Stage, owners: Sequence[str], joint: str, part: Part | None) -> _Errand:
    body = int(stage.model.joint(joint).bodyid[0])
    return _Errand("work", owners[body], "", body, "", part)


def _host(stage: Stage, place: str) -> int:
    """The body that an object or a fixture is, or that a region belongs to."""
    site = mujoco.mj_name2id(stage.model, mujoco.mjtObj.mjOBJ_SITE, place)
    return int(stage.model.site_bodyid[site]) if site >= 0 else stage.body(place)


def _ground(stage: Stage, owners: Sequence[str]) -> frozenset[str]:
    """Names of what carries everything: what stands fast and is neither robot nor one of LIBERO's things."""
    model = stage.model
    things = {stage.body(name) for name in (*stage.things, *stage.fixtures)}
    bare = [
        owners[body]
        for body, root in enumerate(model.body_rootid)
        if root not in things and not model.body_dofnum[root] and model.body(root).name != ROBOT_ROOT
    ]
    return frozenset([*bare, *(model.geom(geom).name for geom in np.flatnonzero(model.geom_bodyid == 0))])


def _body_owners(stage: Stage) -> list[str]:
    """By body: LIBERO's name of the thing that it is part of; its own where it is the robot's, or moves in a joint."""
    model = stage.model
    named = {stage.body(name): name for name in (*stage.things, *stage.fixtures)}
    owners: list[str] = []
    for body, root in enumerate(model.body_rootid):
        parent = int(model.body_parentid[body])
        if root not in named:
            owners.append(model.body(body if model.body(root).name == ROBOT_ROOT else root).name)
        elif body == root:
            owners.append(named[root])
        else:
            owners.append(model.body(body).name if model.body_jntnum[body] else owners[parent])
    return owners
