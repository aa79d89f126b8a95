"""Simulated robots by name, behind the door that a real one has (flexor.runtime.robot)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.observation import Observation
from flexor.runtime.robot import Robot, RobotSpec, Status
from flexor.sim.camera import CameraRig
from flexor.sim.controller import METRES_PER_UNIT
from flexor.sim.failure.judge import FailureJudge
from flexor.sim.failure.tabletop import TabletopScene
from flexor.sim.libero.protocol import LiberoSettings
from flexor.sim.libero.suites import ALIASES, SUITES
from flexor.sim.oracle import Oracle
from flexor.sim.planner import PlanningExpert
from flexor.sim.scenes import CAMERAS, SCENES
from flexor.sim.sentences import instruction, spoken
from flexor.sim.shift import NONE, Shift
from flexor.sim.tabletop import ACTION_DIM, IMAGE_SIZE, MAX_STEPS, TaskError, find_task
from flexor.sim.tasks import TASKS, alternatives, is_done
from flexor.sim.world import CONTROL_HZ, World

WORKSPACE = np.array([[0.25, -0.45, 0.0], [0.75, 0.45, 0.55]], dtype=np.float32)  # m, of the gripper frame


class UnknownRobotError(FlexorError):
    """A robot name that nothing answers to."""


class TabletopRobot:
    """The tabletop as a robot: any of its tasks, a world and a renderer a scene, frames drawn only when someone looks.

    A scene is built when one of its tasks is first asked for, and kept: closing a renderer spoils the others
    (flexor.sim.camera).
    """

    def __init__(self, image_size: int = IMAGE_SIZE, shift: Shift = NONE) -> None:
        self._image_size, self._shift = image_size, shift
        self._stages: dict[str, tuple[World, CameraRig]] = {}
        self._task = next(iter(TASKS.values()))
        self._world, self._rig = self._stage(self._task.scene)
        self._prompt = instruction(self._task)
        self._step = 0
        self._judge = FailureJudge(TabletopScene(self._world, self._task))
        limit = np.ones(ACTION_DIM, dtype=np.float32)
        self._spec = RobotSpec(
            name="sim:tabletop",
            cameras={camera: (image_size, image_size) for camera in CAMERAS},
            state_dim=8,
            action_dim=ACTION_DIM,
            hz=CONTROL_HZ,
            action_low=-limit,
            action_high=limit,
            metres_per_unit=METRES_PER_UNIT,
            workspace=WORKSPACE,
            tasks={name: instruction(task) for name, task in TASKS.items()},
            max_steps=MAX_STEPS,
            alternatives={name: alternatives(task) for name, task in TASKS.items()},
            conditions={"shift": shift.to_dict()},
        )

    @property
    def spec(self) -> RobotSpec:
        """What this robot is."""
        return self._spec

    @property
    def world(self) -> World:
        """The simulator behind the door, of the present task's scene: for the oracle."""
        return self._world

    def reset(self, seed: int, task: str) -> Status:
        """Start an episode of a task; the seed alone decides where everything lies.

        Raises:
            TaskError: no such task.
        """
        self._task = find_task(task)
        self._world, self._rig = self._stage(self._task.scene)
        self._world.reset(seed)
        self._prompt = spoken(self._task, self._world.drawn)
        self._step = 0
        self._judge = FailureJudge(TabletopScene(self._world, self._task))
        return Status(step=0, done=False, success=is_done(self._task, self._world), prompt=self._prompt)

    def state(self) -> NDArray[np.float32]:
        """Gripper-frame position (m), axis-angle (rad), finger positions (m): float32 [8]."""
        world = self._world
        return np.concatenate([world.grip_position(), world.grip_axis_angle(), world.finger_positions()]).astype(
            np.float32
        )

    def observe(self) -> Observation:
        """Draw both cameras."""
        images = {camera: self._rig.shoot(self._world.data, camera) for camera in CAMERAS}
        return Observation(images=images, state=self.state(), prompt=self._prompt)

    def act(self, action: NDArray[np.float32]) -> Status:
        """Play one action; returns as soon as it is simulated, the caller keeps the time."""
        self._world.act(action)
        self._step += 1
        return self._status()

    def hold(self) -> Status:
        """Keep the pose for one control period."""
        self._world.hold()
        self._step += 1
        return self._status()

    def expert(self) -> PlanningExpert:
        """The oracle for the present episode: each call is its next action."""
        return PlanningExpert(Oracle(self._task), self._world)

    def solved(self, task: str) -> bool:
        """Whether another task of the present scene is solved right now.

        Raises:
            TaskError: no such task, or one of another scene.
        """
        other = find_task(task)
        if other.scene != self._task.scene:
            raise TaskError(f"task {task!r} is of scene {other.scene!r}; expected one of {self._task.scene!r}")
        return is_done(other, self._world)

    def close(self) -> None:
        """Free the cameras."""
        for _, rig in self._stages.values():
            rig.close()

    def _stage(self, scene: str) -> tuple[World, CameraRig]:
        if scene not in self._stages:
            world = World(SCENES[scene], self._shift)
            self._stages[scene] = (world, CameraRig(world.model, self._image_size))
        return self._stages[scene]

    def _status(self) -> Status:
        """After a control step."""
        success, judge, played = is_done(self._task, self._world), self._judge, self._step - 1
        judge.look(played)
        done = success or self._step >= MAX_STEPS
        failure = judge.finish(played, success) if done else None
        return Status(self._step, done, success, failure, judge.events)


EMBEDDED = ("tabletop",)
LIBERO = (*SUITES, *ALIASES)


def sim_robot(sim: str, among: tuple[str, ...] = EMBEDDED) -> str:
    """The robot's name of a simulator's: "tabletop" -> "sim:tabletop".

    Args:
        among: what the caller can use.

    Raises:
        UnknownRobotError: no such simulator.
    """
    if sim not in among:
        raise UnknownRobotError(f"unknown simulator {sim!r}, expected one of: {', '.join(among)}")
    return f"sim:{sim}"


def open_robot(
    name: str, image_size: int = IMAGE_SIZE, shift: Shift = NONE, libero: LiberoSettings | None = None
) -> Robot:
    """Open a robot by its name, in the workplace of a shift.

    Args:
        name: "sim:tabletop", "sim:libero_spatial", or "sim:libero_spatial/TASK" for one task of a suite alone.
        image_size: of tabletop's cameras, px.
        libero: of LIBERO's suites; the defaults when None.

    Raises:
        UnknownRobotError: no such robot.
        RenderError: cameras cannot be drawn here.
        FlexorError: LIBERO cannot run here.
    """
    sim, _, task = name.removeprefix("sim:").partition("/")
    if name == "sim:tabletop":
        return TabletopRobot(image_size, shift)
    if name.startswith("sim:") and sim in LIBERO:
        from flexor.sim.libero.robot import LiberoRobot

        return LiberoRobot(sim, libero, shift, task or None)
    known = (f"sim:{sim}" for sim in (*EMBEDDED, *LIBERO))
    raise UnknownRobotError(f"unknown robot {name!r}, expected one of: {', '.join(known)}")
