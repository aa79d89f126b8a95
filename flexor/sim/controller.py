"""Operational-space control of the Panda with LIBERO's 7-d delta action (the law of robosuite's OSC_POSE).

One action sets a goal pose relative to where the gripper frame is now (0.05 m and 0.5 rad a unit); until the next
action, torques pull the frame there as a critically damped spring in task space (kp 150 /s^2), with the arm's
dynamics compensated and the elbow drawn to the rest pose in the null space.
Reference: O. Khatib, "A unified approach for motion and force control of robot manipulators", 1987.
"""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.sim import panda

METRES_PER_UNIT = 0.05
RADIANS_PER_UNIT = 0.5
STIFFNESS = 150.0  # 1/s^2
DAMPING = 2.0 * np.sqrt(STIFFNESS)
NULL_STIFFNESS = 10.0
NULL_DAMPING = 2.0 * np.sqrt(NULL_STIFFNESS)
FINGER_SPEED = 0.2  # m/s of each finger's target


def rotation_vector(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis-angle vector [3] (rad) of a rotation matrix [3, 3]."""
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, matrix.ravel())
    vector = np.empty(3)
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def rotation_matrix(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix [3, 3] of an axis-angle vector [3] (rad)."""
    quat, matrix = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(9)
    mujoco.mju_quatIntegrate(quat, np.asarray(vector, dtype=np.float64), 1.0)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


@dataclass(frozen=True, slots=True)
class Aim:
    """What a controller is after: the pose of the gripper frame, and what the fingers do and have reached (m)."""

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    closing: bool
    opening: float


class OperationalSpaceController:
    """Turns delta actions into joint torques and finger targets; the world calls it between mj_step1 and mj_step2."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        self._site = model.site(panda.GRIP_SITE).id
        self._dofs = np.array([model.joint(name).dofadr[0] for name in panda.JOINTS])
        self._qpos = np.array([model.joint(name).qposadr[0] for name in panda.JOINTS])
        self._arm_ctrl = np.array([model.actuator(f"motor{i}").id for i in range(1, 8)])
        self._finger_ctrl = np.array([model.actuator(f"servo{i}").id for i in (1, 2)])
        self._jacobian = np.zeros((6, model.nv))
        self._mass = np.zeros((model.nv, model.nv))
        self._grid = np.ix_(self._dofs, self._dofs)
        self.reset()

    def reset(self) -> None:
        """Make the present pose the goal and the present finger position the target."""
        self._goal_pos = self._data.site_xpos[self._site].copy()
        self._goal_mat = self._data.site_xmat[self._site].reshape(3, 3).copy()
        self._closing = False
        self._opening = float(self._data.joint(panda.FINGER_JOINTS[0]).qpos[0])

    def aim(self, action: NDArray[np.floating]) -> None:
        """Set the goal from an action [7] in [-1, 1]: position and rotation (base frame), gripper (> 0 closes)."""
        self._goal_pos = self._data.site_xpos[self._site] + METRES_PER_UNIT * np.asarray(action[:3], dtype=np.float64)
        turn = rotation_matrix(RADIANS_PER_UNIT * np.asarray(action[3:6], dtype=np.float64))
        self._goal_mat = turn @ self._data.site_xmat[self._site].reshape(3, 3)
        self._closing = bool(action[6] > 0)

    def hold(self) -> None:
        """Make the present pose the goal; the gripper goes on as last commanded."""
        self._goal_pos = self._data.site_xpos[self._site].copy()
        self._goal_mat = self._data.site_xmat[self._site].reshape(3, 3).copy()

    def kept(self) -> Aim:
        """What it is after, to be restored."""
        return Aim(self._goal_pos.copy(), self._goal_mat.copy(), self._closing, self._opening)

    def restore(self, aim: Aim) -> None:
        """Be after what was kept."""
        self._goal_pos, self._goal_mat = aim.position, aim.rotation
        self._closing, self._opening = aim.closing, aim.opening

    def drive(self) -> None:
        """Write torques and finger targets for one physics step into data.ctrl."""
        model, data, dofs = self._model, self._data, self._dofs
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        mujoco.mj_fullM(model, self._mass, data.qM)
        jacobian, mass = self._jacobian[:, dofs], self._mass[self._grid]
        velocity = data.qvel[dofs]
        mass_inverse = np.linalg.inv(mass)
        task_inertia = np.linalg.inv(jacobian @ mass_inverse @ jacobian.T + 1e-6 * np.eye(6))
        error = np.concatenate(
            [
                self._goal_pos - data.site_xpos[self._site],
                rotation_vector(self._goal_mat @ data.site_xmat[self._site].reshape(3, 3).T),
            ]
        )
        wrench = task_inertia @ (STIFFNESS * error - DAMPING * (jacobian @ velocity))
        posture = mass @ (NULL_STIFFNESS * (panda.REST_POSE - data.qpos[self._qpos]) - NULL_DAMPING * velocity)
        null_space = np.eye(len(dofs)) - jacobian.T @ (task_inertia @ jacobian @ mass_inverse)
        torque = jacobian.T @ wrench + null_space @ posture + data.qfrc_bias[dofs]
        data.ctrl[self._arm_ctrl] = np.clip(torque, -panda.TORQUE_LIMITS, panda.TORQUE_LIMITS)
        step = FINGER_SPEED * model.opt.timestep
        self._opening = float(np.clip(self._opening + (-step if self._closing else step), 0.0, panda.FINGER_OPEN))
        data.ctrl[self._finger_ctrl] = (self._opening, -self._opening)
