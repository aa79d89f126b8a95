"""Tabletop as a gymnasium environment with LIBERO's observation keys and its 7-d delta action at 20 Hz."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.sim.camera import CameraRig
from flexor.sim.scenes import CAMERAS, SCENES
from flexor.sim.sentences import instruction, spoken
from flexor.sim.shift import NONE, Shift
from flexor.sim.tasks import TASKS, Task, is_done
from flexor.sim.world import CONTROL_HZ, World

IMAGE_SIZE = 128  # px, both cameras
MAX_STEPS = 200
ACTION_DIM = 7


class TaskError(FlexorError):
    """An unknown task name."""


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        TaskError: there is none.
    """
    if name not in TASKS:
        raise TaskError(f"unknown tabletop task {name!r}, expected one of: {', '.join(TASKS)}")
    return TASKS[name]


class TabletopEnv(gymnasium.Env[Any, NDArray[np.float32]]):
    """One task of one scene, in the workplace of a shift.

    Observation: agentview_image and robot0_eye_in_hand_image uint8 [size, size, 3] (upright, unlike LIBERO's, which
    come upside down), robot0_eef_pos [3] m, robot0_eef_quat [4] x y z w, robot0_gripper_qpos [2] m,
    robot0_joint_pos [7] rad. Action: float32 [7] in [-1, 1]. Reward 1 and terminated on success; truncated after
    MAX_STEPS.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(CONTROL_HZ)}  # noqa: RUF012  gymnasium's own form

    def __init__(
        self, task: str, image_size: int = IMAGE_SIZE, render_mode: str = "rgb_array", shift: Shift = NONE
    ) -> None:
        self.render_mode = render_mode
        self.task = find_task(task)
        self.prompt = instruction(self.task)
        self.world = World(SCENES[self.task.scene], shift)
        self._rig = CameraRig(self.world.model, image_size)
        self._step = 0
        picture = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        vector = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "robot0_joint_pos": 7}
        spaces: dict[str, gymnasium.Space[Any]] = {f"{camera}_image": picture for camera in CAMERAS}
        for name, size in vector.items():
            spaces[name] = gymnasium.spaces.Box(-10.0, 10.0, (size,), np.float64)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin the episode of a seed (a random one without); the same seed gives the same bits."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self.world.reset(seed)
        self.prompt = spoken(self.task, self.world.drawn)
        self._step = 0
        return self._observe(), {"seed": seed, "prompt": self.prompt, "success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Play one action for 50 ms."""
        self.world.act(action)
        self._step += 1
        success = is_done(self.task, self.world)
        truncated = not success and self._step >= MAX_STEPS
        return self._observe(), float(success), success, truncated, {"success": success}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """The agent camera's view."""
        return self._rig.shoot(self.world.data, CAMERAS[0])

    def close(self) -> None:
        """Free the cameras."""
        self._rig.close()

    def _observe(self) -> dict[str, NDArray[Any]]:
        frames = {f"{camera}_image": self._rig.shoot(self.world.data, camera) for camera in CAMERAS}
        return frames | {
            "robot0_eef_pos": self.world.grip_position(),
            "robot0_eef_quat": self.world.grip_quaternion(),
            "robot0_gripper_qpos": self.world.finger_positions(),
            "robot0_joint_pos": self.world.joint_positions(),
        }
