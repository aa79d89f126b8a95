"""The physics of one scene: a Panda at a table, stepped at 20 Hz by delta actions. Knows no tasks and no cameras."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim import panda
from flexor.sim.actuation import Actuation
from flexor.sim.controller import OperationalSpaceController
from flexor.sim.distractors import things_xml
from flexor.sim.dressing import Dressing
from flexor.sim.layout import Layout, draw_layout
from flexor.sim.scenes import PHYSICS_STEP, ItemKind, Scene, scene_xml
from flexor.sim.shift import NONE, Shift
from flexor.sim.shift_draw import ShiftDraw, draw_shift

CONTROL_HZ = 20.0
SUBSTEPS = round(1.0 / (CONTROL_HZ * PHYSICS_STEP))
SETTLE_STEPS = 50  # physics steps after a reset, arm held


class World:
    """One scene being simulated; the same seed and actions give the same bits on the same machine.

    Attributes:
        drawn: what the shift came to in the present episode.
        actuation: what becomes of commands in it.
    """

    def __init__(self, scene: Scene, shift: Shift = NONE) -> None:
        self.scene, self.shift = scene, shift
        others = things_xml() if shift.acts_on("distractors") else ""
        self.model = mujoco.MjModel.from_xml_string(scene_xml(scene, others))
        self.data, self._kept = mujoco.MjData(self.model), mujoco.MjData(self.model)
        self._kinds: dict[str, ItemKind] = {item.name: item.kind for item in scene.items}
        self._site = self.model.site(panda.GRIP_SITE).id
        self._fingers = [self.model.geom(name).id for name in panda.FINGER_GEOMS]
        self._finger_qpos = [self.model.joint(name).qposadr[0] for name in panda.FINGER_JOINTS]
        self._arm_qpos = [self.model.joint(name).qposadr[0] for name in panda.JOINTS]
        self._dressing = Dressing(self.model, scene)
        self.drawn = ShiftDraw()
        self.actuation = Actuation(self.drawn, 0)
        mujoco.mj_forward(self.model, self.data)
        self._controller = OperationalSpaceController(self.model, self.data)

    def reset(self, seed: int) -> None:
        """Begin again as the seed says (flexor.sim.layout), in the workplace of the shift."""
        layout = draw_layout(self.scene, seed)
        self.drawn = draw_shift(self.shift, self.scene, seed, layout)
        self.actuation = Actuation(self.drawn, seed)
        mujoco.mj_resetData(self.model, self.data)
        self._dressing.wear(layout, self.drawn)
        self._place(layout)
        mujoco.mj_forward(self.model, self.data)
        self._controller.reset()
        self._advance(SETTLE_STEPS)

    def act(self, action: NDArray[np.floating]) -> None:
        """Play one action [7] (clipped to [-1, 1]) for one control period of 50 ms."""
        self._command(np.clip(action, -1.0, 1.0))

    def hold(self) -> None:
        """Stay for one control period, gripper as last commanded."""
        self._command(None)

    @contextlib.contextmanager
    def imagined(self) -> Iterator[None]:
        """Inside, what is played happens in thought alone: afterwards everything is as it was, bit for bit."""
        mujoco.mj_copyData(self._kept, self.model, self.data)
        actuation, aim = copy.deepcopy(self.actuation), self._controller.kept()
        try:
            yield
        finally:
            mujoco.mj_copyData(self.data, self.model, self._kept)
            self.actuation = actuation
            self._controller.restore(aim)

    def position(self, item: str) -> NDArray[np.float64]:
        """Middle of what moves, middle of the foot of what does not, [3] m."""
        return self.data.body(item).xpos.copy()

    def kind(self, item: str) -> ItemKind:
        """What sort of thing an item is."""
        return self._kinds[item]

    def size(self, item: str) -> NDArray[np.float64]:
        """Half the extents of an item's foot geom, [3] m: block x, y, z; puck, plate and mat radius, half height, 0."""
        return self.model.geom(item).size.copy()

    def grip_position(self) -> NDArray[np.float64]:
        """Point between the finger tips, [3] m."""
        return self.data.site_xpos[self._site].copy()

    def grip_rotation(self) -> NDArray[np.float64]:
        """Orientation of the gripper frame, [3, 3]; diag(1, -1, -1) looks straight down."""
        return self.data.site_xmat[self._site].reshape(3, 3).copy()

    def grip_quaternion(self) -> NDArray[np.float64]:
        """Orientation of the gripper frame as x y z w with x >= 0: continuous around "looking down", where w is 0."""
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, self.data.site_xmat[self._site])
        return np.roll(quat if quat[1] >= 0 else -quat, -1)

    def grip_axis_angle(self) -> NDArray[np.float64]:
        """The same as an axis-angle vector [3], rad, angle in [0, 2 pi) (openpi's LIBERO client: 2 acos(w) * axis)."""
        quat = self.grip_quaternion()
        norm = float(np.linalg.norm(quat[:3]))
        return quat[:3] / norm * 2.0 * np.arctan2(norm, quat[3])

    def finger_positions(self) -> NDArray[np.float64]:
        """Both finger joints [2] m: (0.04, -0.04) open, (0, 0) closed."""
        return self.data.qpos[self._finger_qpos].copy()

    def joint_positions(self) -> NDArray[np.float64]:
        """The seven arm joints, rad."""
        return self.data.qpos[self._arm_qpos].copy()

    def fingers_touching(self, item: str) -> int:
        """How many of the two fingers touch an item's foot geom: 2 is a grasp."""
        geom = self.model.geom(item).id
        pairs = self.data.contact.geom
        touched = {int(a) for a, b in pairs if b == geom} | {int(b) for a, b in pairs if a == geom}
        return sum(finger in touched for finger in self._fingers)

    def _command(self, wanted: NDArray[np.floating] | None) -> None:
        arrived = self.actuation.send(wanted)
        if arrived is None:
            self._controller.hold()
        else:
            self._controller.aim(arrived)
        self._advance(SUBSTEPS)

    def _advance(self, steps: int) -> None:
        for _ in range(steps):
            mujoco.mj_step1(self.model, self.data)
            self._controller.drive()
            mujoco.mj_step2(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)  # poses, contacts and cameras of the state just reached

    def _place(self, layout: Layout) -> None:
        self.data.qpos[self._arm_qpos] = panda.REST_POSE + layout.joint_offset + np.asarray(self.drawn.joints)
        self.data.qpos[self._finger_qpos] = (panda.FINGER_OPEN, -panda.FINGER_OPEN)
        for item in self.scene.items:
            x, y, yaw = layout.poses[item.name]
            if item.movable:
                pose = (x, y, item.foot * (1.0 + self.drawn.size), np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
                self.data.joint(f"{item.name}_joint").qpos[:] = pose
            else:
                self.model.body(item.name).pos[:2] = (x, y)
