"""Retina: what robosuite's own sensors would have seen last, kept for a frame that somebody may want to see.

robosuite's observations are not of the end of a control step: LIBERO's evaluation leaves its sensors' clock two
physics steps ahead, and from then on they sample after the 24th of a control step's 25 physics steps.
"""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim.libero.stage import Stage

SUBSTEPS = 25  # physics steps of 2 ms in a control step of 50 ms
SAMPLED_AFTER = 24  # physics steps of a control step after which robosuite looks

_KEPT = (
    *("geom_xpos", "geom_xmat", "site_xpos", "site_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir"),
    *("qpos", "xpos", "xquat"),
)
"""What of the simulator's data pictures and states are made of."""


class Retina:
    """What one stage looked like when robosuite would have looked last.

    It stands in the place of robosuite's own sensors, which are told of each physics step.

    Attributes:
        seen: the simulator's data of then, as far as _KEPT goes.
        site_rgba: the colours of the model's sites then: LIBERO shows by one that a stove is on.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.seen = mujoco.MjData(stage.model)
        self.site_rgba = np.array(stage.model.site_rgba)
        self._physics_steps = 0
        robot = stage.env.robots[0]
        self._grip_site, self._hand = robot.eef_site_id, stage.model.body(robot.robot_model.eef_name).id
        self._fingers = robot._ref_gripper_joint_pos_indexes
        stage.env.visualize({what: False for what in stage.env._visualizations})  # as its reset does: no helper marks
        stage.env._update_observables = self._after_physics_step

    def reset(self) -> None:
        """Look now, at the beginning of an episode, and count from here."""
        self._physics_steps = 0
        self._look()

    def state(self) -> NDArray[np.float32]:
        """Gripper-frame position (m), axis-angle (rad), finger positions (m): float32 [8]."""
        turned = axis_angle(np.roll(self.seen.xquat[self._hand], -1))
        return np.concatenate(
            [self.seen.site_xpos[self._grip_site], turned, self.seen.qpos[self._fingers]], dtype=np.float32
        )

    def _after_physics_step(self, force: bool = False) -> None:
        if not force:
            self._physics_steps += 1
            if self._physics_steps % SUBSTEPS == SAMPLED_AFTER:
                self._look()

    def _look(self) -> None:
        for name in _KEPT:
            getattr(self.seen, name)[:] = getattr(self._stage.data, name)
        self.site_rgba[:] = self._stage.model.site_rgba


def axis_angle(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vector (rad) of a quaternion x y z w, as openpi's evaluation computes it: up to 2 pi long."""
    w = min(1.0, max(-1.0, float(quaternion[3])))
    length = math.sqrt(1.0 - w * w)
    if math.isclose(length, 0.0):
        return np.zeros(3)
    return quaternion[:3] * 2.0 * math.acos(w) / length
