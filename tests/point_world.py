"""A small world with real interfaces: a point that flies to a goal (Robot) and a policy that knows the way.

Stands in for MuJoCo and for weights where a test is about the loop around them. Used across processes, so everything
here can be imported by name.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.observation import ActionChunk, Observation, Provenance
from flexor.runtime.robot import RobotSpec, Status

GOALS: Mapping[str, tuple[float, float, float]] = {"left": (-0.2, 0.1, 0.3), "right": (0.2, 0.1, 0.3)}
SENTENCES = {task: f"fly to the {task}" for task in GOALS}
HORIZON, REPLAN, ACTION_DIM = 10, 5, 7
POINT_SPEC = RobotSpec(
    name="sim:point",
    cameras={"agentview": (12, 16), "wrist": (12, 16)},
    state_dim=8,
    action_dim=ACTION_DIM,
    hz=20.0,
    action_low=-np.ones(ACTION_DIM, np.float32),
    action_high=np.ones(ACTION_DIM, np.float32),
    metres_per_unit=0.05,
    workspace=np.array([[-0.5, -0.5, 0.0], [0.5, 0.5, 0.6]], np.float32),
    tasks=SENTENCES,
    max_steps=120,
)


class PointRobot:
    """The gripper frame as a point; success within 1 cm of the goal. Remembers what it was told, for the tests."""

    def __init__(self, hz: float = 20.0, max_steps: int = 120, far: float = 1.0) -> None:
        """`far` stretches the way to the goal, so that an episode lasts longer."""
        fields = {name: getattr(POINT_SPEC, name) for name in RobotSpec.__dataclass_fields__}
        self._spec = RobotSpec(**{**fields, "hz": hz, "max_steps": max_steps})
        self._far = far
        self.commands: list[NDArray[np.float32] | None] = []  # None: hold
        self.closed = False

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def reset(self, seed: int, task: str) -> Status:
        self._task, self._step = task, 0
        self._goal = np.asarray(GOALS[task], np.float64) * self._far
        self._position = np.array([0.0, 0.0, 0.3]) + np.random.default_rng(seed).uniform(-0.02, 0.02, 3)
        self.commands = []
        return self._status()

    def state(self) -> NDArray[np.float32]:
        return np.concatenate([self._position, np.zeros(5)]).astype(np.float32)

    def observe(self) -> Observation:
        images = {
            camera: np.full((*size, 3), self._step % 256, np.uint8) for camera, size in self._spec.cameras.items()
        }
        return Observation(images, self.state(), SENTENCES[self._task])

    def act(self, action: NDArray[np.float32]) -> Status:
        self.commands.append(action.copy())
        self._position = self._position + action[:3].astype(np.float64) * self._spec.metres_per_unit
        self._step += 1
        return self._status()

    def hold(self) -> Status:
        self.commands.append(None)
        self._step += 1
        return self._status()

    def close(self) -> None:
        self.closed = True

    def _status(self) -> Status:
        success = bool(np.linalg.norm(self._position - self._goal) < 0.01)
        return Status(self._step, success or self._step >= self._spec.max_steps, success)


class PointPolicy:
    """Plans a straight line at a fifth of the greatest speed; `delay_s` makes it as slow as a test needs."""

    executed = 0

    def __init__(self, delay_s: float = 0.0, rtc_max_delay: int = 5, far: float = 1.0, noise: float = 0.0) -> None:
        self._delay_s, self._rtc_max_delay, self._far, self._noise = delay_s, rtc_max_delay, far, noise

    def describe(self) -> dict[str, Any]:
        return {
            "bundle": "point",
            "hash": "0" * 64,
            "cameras": ["agentview", "wrist"],
            "state_dim": 8,
            "action_dim": ACTION_DIM,
            "horizon": HORIZON,
            "replan": REPLAN,
            "rtc_max_delay": self._rtc_max_delay,
            "hz": 20.0,
            "flow_steps": 1,
            "noise_scale": 1.0,
            "engine": "fake",
            "provider": "cpu",
            "precision": "fp32",
            "entropy": {"samples": 8, "cell": 0.03, "version": 1},
        }

    def infer(
        self, observation: Observation, noise_seed: int, action_prefix: NDArray[np.float32] | None = None
    ) -> ActionChunk:
        if self._delay_s:
            time.sleep(self._delay_s)
        goal = np.asarray(GOALS[observation.prompt.split()[-1]]) * self._far
        position = observation.state[:3].astype(np.float64)
        actions = np.zeros((HORIZON, ACTION_DIM), np.float32)
        wobble = np.random.default_rng(noise_seed).normal(0.0, self._noise, (HORIZON, 3))
        for row in range(HORIZON):
            if action_prefix is not None and row < len(action_prefix):
                actions[row] = action_prefix[row]
            else:
                actions[row, :3] = np.clip((goal - position) / 0.05, -0.2, 0.2) + wobble[row]
            position = position + actions[row, :3] * 0.05
        by = Provenance("point@000000000000", "base", "fake", "cpu", "fp32", 1, noise_seed)
        return ActionChunk(actions, by, {"total": 1000.0 * self._delay_s}, {"accel": 0.1})

    def surprise(self, noise_seed: int) -> dict[str, float]:
        return {"ace_bits": 1.0 + noise_seed % 2, "gauss_nats": -3.0}

    def warm_up(self) -> None:
        pass


def open_point(sim: str) -> PointRobot:
    """For evaluate."""
    return PointRobot(max_steps=30)


class ElsewherePoint(PointRobot):
    """Works under conditions, and asks with a sentence of its own."""

    def __init__(self) -> None:
        super().__init__(max_steps=30)
        self._spec = dataclasses.replace(self._spec, conditions={"shift": {"level": "low"}})

    def reset(self, seed: int, task: str) -> Status:
        return dataclasses.replace(super().reset(seed, task), prompt=f"off you go to the {task}")


def open_elsewhere(sim: str) -> ElsewherePoint:
    """For evaluate."""
    return ElsewherePoint()


def open_noisy_policy(bundle: str) -> PointPolicy:
    """Wobbles so much that some episodes fail."""
    return PointPolicy(noise=0.25)


def broken_policy(bundle: str) -> PointPolicy:
    """A bundle that cannot be opened."""
    raise FlexorError(f"bundle {bundle} cannot be opened")


def crashing_policy(bundle: str) -> PointPolicy:
    """A policy with a bug."""
    return _Crashing()


class _Crashing(PointPolicy):
    def infer(self, observation: Observation, noise_seed: int, action_prefix: object = None) -> ActionChunk:
        raise ZeroDivisionError("a bug")
