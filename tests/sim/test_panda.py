"""The arm is Franka's: its kinematics and limits against numbers worked out from the published parameters."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from flexor.sim import panda
from flexor.sim.scenes import SCENES, scene_xml

# Franka's published Denavit-Hartenberg table (Craig): a (m), d (m), alpha (rad) of joints 1..7 and the flange.
DENAVIT_HARTENBERG = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
)
FLANGE = 0.107


def flange_pose(joints: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    for (a, d, alpha), theta in zip(DENAVIT_HARTENBERG, joints, strict=True):
        ct, st, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [
                [ct, -st, 0, a],
                [st * ca, ct * ca, -sa, -d * sa],
                [st * sa, ct * sa, ca, d * ca],
                [0, 0, 0, 1],
            ]
        )
    pose[:3, 3] += pose[:3, 2] * FLANGE
    return pose


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(scene_xml(SCENES["blocks"]))


def test_forward_kinematics_equal_the_published_parameters(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = rng.uniform(panda.JOINT_LIMITS[:, 0], panda.JOINT_LIMITS[:, 1])
        for name, value in zip(panda.JOINTS, joints, strict=True):
            data.joint(name).qpos[0] = value
        mujoco.mj_kinematics(model, data)
        expected = flange_pose(joints)
        np.testing.assert_allclose(data.body(panda.HAND_BODY).xpos, expected[:3, 3], atol=1e-6)
        # The hand is mounted a quarter of a half turn about the flange's axis.
        turn = np.array([[1, 1, 0], [-1, 1, 0], [0, 0, np.sqrt(2)]]) / np.sqrt(2)
        np.testing.assert_allclose(data.body(panda.HAND_BODY).xmat.reshape(3, 3), expected[:3, :3] @ turn, atol=1e-6)


def test_joint_limits_are_in_the_model(model: mujoco.MjModel) -> None:
    ranges = np.array([model.joint(name).range for name in panda.JOINTS])
    np.testing.assert_allclose(ranges, panda.JOINT_LIMITS)


def test_the_wrist_camera_moves_with_the_hand(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    places = []
    for turn in (0.0, 1.0):
        data.joint("joint1").qpos[0] = turn
        mujoco.mj_forward(model, data)
        places.append(data.cam(panda.WRIST_CAMERA).xpos - data.body(panda.HAND_BODY).xpos)
    assert np.linalg.norm(places[0] - places[1]) > 0.01
    assert np.isclose(np.linalg.norm(places[0]), np.linalg.norm(places[1]))
