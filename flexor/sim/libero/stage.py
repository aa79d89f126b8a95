"""One LIBERO task's simulator: reset, stepped and looked into; nothing is rendered here."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import copy
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.sim.libero.assets import prepare
from flexor.sim.libero.fixtures import OFFICIAL_SEED, FixtureDraws, Fixtures
from flexor.sim.libero.goal import Goal, GoalError, Part, parse_goal
from flexor.sim.libero.shift.extras import bodies_added
from flexor.sim.libero.stepping import computed_once
from flexor.sim.libero.suites import SuiteTask

WAIT_ACTION = np.array([0.0] * 6 + [-1.0], dtype=np.float32)
WAIT_STEPS = 10
STAND_IN_ROOMS = ("living_room",)  # reduced assets have a closed box there, between the camera and the table
UNSEEN = 5  # a group of geoms that is not drawn
FINGERS = tuple((f"gripper0_finger{number}_collision", f"gripper0_finger{number}_pad_collision") for number in (1, 2))


class StageError(FlexorError):
    """A state that does not fit the scene, or a name that is not in it."""


class Stage:
    """One task's scene being simulated; the same start, fixtures and actions give the same bits on the same machine.

    Attributes:
        task: whose scene it is.
        goal: what is asked for: what the task wants, or what `ask` was told.
        sentence: how it is said.
        env: the robosuite environment, for LIBERO's own predicates.
        model, data: MuJoCo's; they stay the same objects for the stage's life.
        things, fixtures: names of what can be moved about, and of what cannot.
        swift: whether physics steps are computed once (stepping.py) and not bit by bit as the benchmark does.
    """

    def __init__(self, task: SuiteTask, extras: str = "") -> None:
        """Build the scene (seconds).

        Args:
            extras: further bodies, as MJCF; they have to stand still.

        Raises:
            FlexorError: LIBERO cannot run here.
        """
        assets = prepare()
        from libero.libero.envs.env_wrapper import ControlEnv

        self.task, self.swift = task, False
        file = str(task.bddl_file)
        with bodies_added(extras):
            wrapper = ControlEnv(file, use_camera_obs=False, has_offscreen_renderer=False, ignore_done=True)
        self.env: Any = wrapper.env
        self.model: Any = self.env.sim.model._model
        self.data: Any = self.env.sim.data._data
        if assets.reduced:
            names = [self.model.geom(geom).name for geom in range(self.model.ngeom)]
            self.model.geom_group[np.isin(names, STAND_IN_ROOMS)] = UNSEEN
        self._own_goal = parse_goal(self.env.parsed_problem["goal_state"])
        self.ask()
        self._fixtures = FixtureDraws(self.env)
        self._robot = self.env.robots[0]
        self.things, self.fixtures = tuple(self.env.objects_dict), tuple(self.env.fixtures_dict)
        self._bodies: dict[str, int] = dict(self.env.obj_body_id)
        self._sites = {name: self.model.site(name).id for name in self.env.object_sites_dict}
        self._fingers = [[self.model.geom(name).id for name in names] for names in FINGERS]
        self._hear_nothing()
        self._fixtures.official(0)
        self._fresh = _arrays(self._robot.controller)

    def ask(self, goal: Goal | None = None, sentence: str = "") -> None:
        """From now on something else is asked for in this scene; None: what its task wants."""
        self.goal, self.sentence = goal or self._own_goal, sentence or self.task.sentence

    def reset(self, start: NDArray[np.float64], fixtures: Fixtures | None = None) -> None:
        """Put the scene into a flattened simulator state; the fixtures stay where they are if not told.

        The controller is as LIBERO's own reset leaves it, which is not aware of the state: its first command goes out
        from the arm's nominal pose.

        Args:
            start: float64 [1 + nq + nv]: time, positions, velocities.

        Raises:
            StageError: a state of another scene.
        """
        expected = (1 + self.model.nq + self.model.nv,)
        if start.shape != expected:
            raise StageError(f"start has shape {start.shape}; expected {expected} for {self.task.name}")
        env = self.env
        env.timestep, env.cur_time, env.done = 0, 0.0, False
        vars(self._robot.controller).update(copy.deepcopy(self._fresh))
        self._robot.gripper.current_action = np.zeros(self._robot.gripper.dof)
        mujoco.mj_resetData(self.model, self.data)
        self._fixtures.place(fixtures or self._fixtures.now())
        env.sim.set_state_from_flattened(start)
        env.sim.forward()
        env._check_success()
        env._post_process()

    def official_fixtures(self, trial: int, seed: int = OFFICIAL_SEED) -> Fixtures:
        """Where the fixtures stand in the trial-th episode of an evaluation that seeds with `seed`; reset after it."""
        return self._fixtures.official(trial, seed)

    def draw_scene(self, seed: int) -> Fixtures:
        """Place everything as LIBERO's own samplers do with a seed of ours; returns where the fixtures stand."""
        return self._fixtures.sampled(seed)

    def start(self) -> NDArray[np.float64]:
        """The present state as `reset` takes it."""
        return self.env.sim.get_state().flatten()

    def wait(self, steps: int = WAIT_STEPS) -> None:
        """Let things settle, as evaluations do before the policy begins."""
        for _ in range(steps):
            self.act(WAIT_ACTION)

    def move(self, thing: str, offset: NDArray[np.float64]) -> None:
        """Move something that is free by [2] m along x and y; nothing is settled.

        Raises:
            StageError: the scene has no such thing.
        """
        self._id(thing)
        self.data.joint(self.env.objects_dict[thing].joints[-1]).qpos[:2] += offset

    def turn_joints(self, turns: NDArray[np.float64]) -> None:
        """Turn the seven arm joints by so much, rad; the controller takes the new pose for its own."""
        self.data.qpos[self._robot._ref_joint_pos_indexes] += turns
        self.env.sim.forward()
        self._robot.controller.update(force=True)
        self._robot.controller.reset_goal()

    def act(self, action: NDArray[np.floating]) -> None:
        """Play one action [7] for a control period of 50 ms."""
        with computed_once(self.env.sim) if self.swift else contextlib.nullcontext():
            self.env.step(action)

    def is_done(self) -> bool:
        """Whether what is asked for is so right now; of the task itself by LIBERO's own judgement as a whole."""
        if self.goal != self._own_goal:
            return self.goal.holds(self)
        return self.is_own_done()

    def is_own_done(self) -> bool:
        """Whether the task itself is solved right now, whatever was asked for."""
        return bool(self.env._check_success())

    def holds(self, part: Part) -> bool:
        """Whether one part of a goal holds right now.

        Raises:
            GoalError: the scene has no such thing.
        """
        known = self.env.object_states_dict
        for name in part.names:
            if name not in known:
                raise GoalError(f"{self.task.name} has no {name!r}, expected one of: {', '.join(known)}")
        return bool(self.env._eval_predicate([part.predicate, *part.names]))

    def grip_position(self) -> NDArray[np.float64]:
        """Point between the finger tips, [3] m."""
        return self.data.site_xpos[self._robot.eef_site_id].copy()

    def grip_velocity(self) -> NDArray[np.float64]:
        """How fast that point moves, [3] m/s."""
        velocity = np.empty(6)
        site = mujoco.mjtObj.mjOBJ_SITE
        mujoco.mj_objectVelocity(self.model, self.data, site, self._robot.eef_site_id, velocity, 0)
        return velocity[3:]

    def grip_rotation(self) -> NDArray[np.float64]:
        """Orientation of the gripper frame, [3, 3]; columns (0, 1, 0), (1, 0, 0), (0, 0, -1) look straight down."""
        return self.data.site_xmat[self._robot.eef_site_id].reshape(3, 3).copy()

    def grip_quaternion(self) -> NDArray[np.float64]:
        """Orientation of the hand as LIBERO observes it, x y z w."""
        return np.roll(self.data.body(self._robot.robot_model.eef_name).xquat, -1)

    def finger_positions(self) -> NDArray[np.float64]:
        """Both finger joints [2] m: (0.04, -0.04) open, (0, 0) closed."""
        return self.data.qpos[self._robot._ref_gripper_joint_pos_indexes].copy()

    def opening_axis(self) -> NDArray[np.float64]:
        """Direction in which the first finger opens, [3]."""
        return self.data.xaxis[self.model.joint("gripper0_finger_joint1").id].copy()

    def finger_speeds(self) -> NDArray[np.float64]:
        """How fast both fingers move, [2] m/s."""
        return self.data.qvel[self._robot._ref_gripper_joint_vel_indexes].copy()

    def joint_positions(self) -> NDArray[np.float64]:
        """The seven arm joints, rad."""
        return self.data.qpos[self._robot._ref_joint_pos_indexes].copy()

    def position(self, name: str) -> NDArray[np.float64]:
        """Where an object, a fixture or a region is, [3] m.

        Raises:
            StageError: the scene has no such thing.
        """
        return (self.data.site_xpos if name in self._sites else self.data.xpos)[self._id(name)].copy()

    def rotation(self, name: str) -> NDArray[np.float64]:
        """How an object, a fixture or a region is turned, [3, 3].

        Raises:
            StageError: the scene has no such thing.
        """
        return (self.data.site_xmat if name in self._sites else self.data.xmat)[self._id(name)].reshape(3, 3).copy()

    def body(self, name: str) -> int:
        """The body at the root of an object or a fixture, or of the one that a region belongs to: an id of `model`.

        Raises:
            StageError: the scene has no such thing.
        """
        found = self._id(name)
        return int(self.model.body_rootid[self.model.site_bodyid[found] if name in self._sites else found])

    def fingers_touching(self, name: str) -> int:
        """How many of the two fingers touch an object or a fixture: 2 is a grasp.

        Raises:
            StageError: the scene has no such thing.
        """
        root = self.body(name)
        pairs = self.data.contact.geom[: self.data.ncon]
        bodies = self.model.body_rootid[self.model.geom_bodyid[pairs]]
        mine = bodies == root
        others = np.concatenate([pairs[:, 1][mine[:, 0]], pairs[:, 0][mine[:, 1]]])
        return sum(bool(np.isin(others, finger).any()) for finger in self._fingers)

    def opening(self, name: str) -> NDArray[np.float64]:
        """Joint values of what can be opened or turned, or of a region of it (a drawer's): float64 [joints].

        Raises:
            StageError: the scene has no such thing.
        """
        return np.array([self.data.joint(joint).qpos[0] for joint in self.joint_names(name)])

    def joint_names(self, name: str) -> list[str]:
        """The joints by which a thing, or a region of it, can be opened or turned; none for what cannot.

        Raises:
            StageError: the scene has no such thing.
        """
        self._id(name)
        thing = self.env.object_sites_dict.get(name) or self.env.get_object(name)
        return [joint for joint in thing.joints or () if self.model.joint(joint).type[0] != mujoco.mjtJoint.mjJNT_FREE]

    def _id(self, name: str) -> int:
        found = self._sites.get(name, self._bodies.get(name))
        if found is None:
            raise StageError(
                f"{self.task.name} has no {name!r}, expected one of: {', '.join((*self._bodies, *self._sites))}"
            )
        return found

    def _hear_nothing(self) -> None:
        """robosuite's observables cost a tenth of a step and are asked by nobody here."""
        self.env._update_observables = lambda force=False: None
        self.env._get_observations = lambda force_update=False: {}


def _arrays(controller: Any) -> dict[str, Any]:
    """What changes in a controller while it works."""
    kept = (np.ndarray, bool, float, type(None))
    return {name: copy.deepcopy(value) for name, value in vars(controller).items() if isinstance(value, kept)}
