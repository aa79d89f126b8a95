"""A LIBERO suite as a robot: its tasks behind the door that every robot has, under a published protocol."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.observation import Observation
from flexor.runtime.robot import RobotFault, RobotSpec, Status
from flexor.sim.controller import METRES_PER_UNIT
from flexor.sim.failure.judge import FailureJudge
from flexor.sim.libero.alternatives import find_asked, telling_names
from flexor.sim.libero.assets import prepare
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.protocol import OFFICIAL_STARTS, LiberoSettings, find_protocol
from flexor.sim.libero.retina import Retina
from flexor.sim.libero.shift.workplace import Workplace, open_stage
from flexor.sim.libero.stage import WAIT_STEPS, Stage
from flexor.sim.libero.starts import draw_start
from flexor.sim.libero.suites import SuiteError, find_suite, official_starts
from flexor.sim.libero.view import View, find_render
from flexor.sim.libero.watched import StageScene
from flexor.sim.scenes import CAMERAS
from flexor.sim.shift import LIBERO, NONE, Shift
from flexor.sim.tabletop import ACTION_DIM
from flexor.sim.world import CONTROL_HZ

OPEN_STAGES = 3  # a scene with its textures takes up to half a gigabyte
UNBOUNDED = np.array([[-np.inf] * 3, [np.inf] * 3], dtype=np.float32)  # the benchmark bounds no motion

_WARNINGS = mujoco.mjtWarning
_DIVERGED = [int(kind) for kind in (_WARNINGS.mjWARN_BADQPOS, _WARNINGS.mjWARN_BADQVEL, _WARNINGS.mjWARN_BADQACC)]


@dataclass(slots=True)
class _Place:
    """A task's scene, what robosuite would see of it, what draws that, once somebody looks, and its present judge."""

    stage: Stage
    retina: Retina
    workplace: Workplace
    starts: NDArray[np.float64]
    view: View | None = None
    judge: FailureJudge | None = None

    def close(self) -> None:
        if self.view is not None:
            self.view.close()
        self.stage.env.close()


class LiberoRobot:
    """All tasks of a suite; the OPEN_STAGES last ones stay built, so stay with a task for some episodes.

    A task is told by its name or number; "OTHER@TASK" asks for another one in its scene (alternatives.py). The spec
    names those that tell whether a policy reads; `reset` takes the others as well.
    """

    def __init__(
        self, suite: str, settings: LiberoSettings | None = None, shift: Shift = NONE, only: str | None = None
    ) -> None:
        """
        Args:
            only: name or number of the one task that it has; None means all of the suite.

        Raises:
            FlexorError: an unknown suite or setting, or LIBERO cannot run here.
        """
        settings = settings or LiberoSettings()
        self._shift = shift.of(LIBERO)
        self._suite = find_suite(suite)
        self._protocol, self._render = find_protocol(settings.protocol), find_render(settings.render)
        self._sampled = settings.starts == "sampled"
        self._places: OrderedDict[str, _Place] = OrderedDict()
        tasks = self._suite.tasks if only is None else (self._suite.find(only),)
        self._task = tasks[0]
        self._step = 0
        limit = np.ones(ACTION_DIM, dtype=np.float32)
        sent = self._render.sent
        self._spec = RobotSpec(
            name=f"sim:{self._suite.name}",
            cameras={camera: (sent, sent) for camera in CAMERAS},
            state_dim=8,
            action_dim=ACTION_DIM,
            hz=CONTROL_HZ,
            action_low=-limit,
            action_high=limit,
            metres_per_unit=METRES_PER_UNIT,
            workspace=UNBOUNDED,
            tasks={task.name: task.sentence for task in tasks},
            max_steps=self._protocol.max_steps[self._suite.name],
            alternatives={task.name: telling_names(task) for task in tasks},
            conditions={
                "protocol": self._protocol.name,
                "render": self._render.name,
                "starts": settings.starts,
                "shift": self._shift.to_dict(),
                **prepare().to_dict(),
            },
        )

    @property
    def spec(self) -> RobotSpec:
        """What this robot is."""
        return self._spec

    @property
    def stage(self) -> Stage:
        """The simulator behind the door, of the present task: for the oracle."""
        return self._place().stage

    def expert(self) -> Callable[[], NDArray[np.float32]]:
        """The scripted expert for the present episode: each call is its next action."""
        place, expert = self._place(), Expert(self.stage)
        return lambda: place.workplace.undone(expert.act()) if self._shift.level != "none" else expert.act()

    def reset(self, seed: int, task: str) -> Status:
        """Start an episode of a task and let things settle as the protocol does.

        The seed is the number of the official initial state (beyond 50 they come again), or draws a placement.

        Raises:
            SuiteError: no such task.
            RobotFault: the simulator broke down, and the next reset builds the scene anew; or (StartError) no placement
                was found.
        """
        asked = find_asked(self._suite, task)
        self._task, self._step = asked.layout, 0
        place = self._place()
        if asked.other is None:
            place.stage.ask()
        else:
            place.stage.ask(asked.other.goal, asked.other.sentence)
        place.workplace.clear()
        place.judge = None
        with self._faults(place):
            self._settle(place, seed)
            success = place.stage.is_done()
        place.judge = FailureJudge(StageScene(place.stage))
        return Status(step=0, done=False, success=success, prompt=place.workplace.sentence)

    def state(self) -> NDArray[np.float32]:
        """Gripper-frame position (m), axis-angle (rad), finger positions (m), as robosuite has them: float32 [8]."""
        return self._place().retina.state()

    def observe(self) -> Observation:
        """Draw both cameras."""
        place = self._place()
        place.view = place.view or View(place.stage.model, self._render, self._protocol.resize)
        images = {camera: place.workplace.shoot(place.view, place.retina, camera, self._step) for camera in CAMERAS}
        return Observation(images=images, state=place.retina.state(), prompt=place.workplace.sentence)

    def act(self, action: NDArray[np.float32]) -> Status:
        """Play one action; returns as soon as it is simulated.

        Raises:
            RobotFault: the simulator broke down; the next reset builds the scene anew.
        """
        return self._play(action)

    def hold(self) -> Status:
        """Keep the pose for one control period."""
        return self._play(None)

    def _play(self, command: NDArray[np.float32] | None) -> Status:
        place = self._place()
        with self._faults(place):
            place.stage.act(place.workplace.send(command))
            success = place.stage.is_done()
        self._step += 1
        return self._status(place, success)

    def solved(self, task: str) -> bool:
        """Whether the present scene's own task, or another that can be asked for in it, is solved right now.

        Raises:
            SuiteError: no such task, or one of another scene.
        """
        asked, stage = find_asked(self._suite, task), self._place().stage
        if asked.layout != stage.task:
            raise SuiteError(f"{task} is of another scene; expected {stage.task.name} or OTHER@{stage.task.name}")
        return stage.is_own_done() if asked.other is None else asked.other.goal.holds(stage)

    def close(self) -> None:
        """Free all scenes."""
        while self._places:
            self._places.popitem()[1].close()

    def _settle(self, place: _Place, seed: int) -> None:
        """Begin the episode of a seed, and wait until everything rests."""
        if self._sampled:
            start = draw_start(place.stage, seed)
            state, fixtures = start.state, start.fixtures
        else:
            trial = seed % OFFICIAL_STARTS
            fixtures = place.stage.official_fixtures(*self._protocol.fixture_draw(trial))
            state = place.starts[trial]
        place.workplace.dress(seed)
        place.stage.reset(state, fixtures)
        place.workplace.arrange()
        place.retina.reset()
        place.stage.wait(WAIT_STEPS)

    def _status(self, place: _Place, success: bool) -> Status:
        """After a control step."""
        judge, played = place.judge, self._step - 1
        done = success or self._step >= self._spec.max_steps
        if judge is None:  # played without an episode
            return Status(self._step, done, success)
        judge.look(played)
        failure = judge.finish(played, success) if done else None
        return Status(self._step, done, success, failure, judge.events)

    def _place(self) -> _Place:
        name = self._task.name
        if name not in self._places:
            while len(self._places) >= OPEN_STAGES:
                self._places.popitem(last=False)[1].close()
            stage = open_stage(self._task, self._shift)
            stage.swift = self._sampled  # the official episodes are the benchmark's own, bit by bit
            workplace = Workplace(stage, self._shift)
            self._places[name] = _Place(stage, Retina(stage), workplace, official_starts(self._task))
        self._places.move_to_end(name)
        return self._places[name]

    @contextlib.contextmanager
    def _faults(self, place: _Place) -> Iterator[None]:
        """Whatever the simulator raises within is a fault of the robot, and so is a simulation that diverges."""
        try:
            yield
        except FlexorError:  # ours: they say themselves what is wrong
            raise
        except Exception as error:  # whatever a simulator of a third party raises
            raise self._fault(f"{type(error).__name__}: {error}") from error
        if place.stage.data.warning.number[_DIVERGED].any():
            raise self._fault("the simulation diverged, and MuJoCo began it anew")

    def _fault(self, reason: str) -> RobotFault:
        place = self._places.pop(self._task.name)
        with contextlib.suppress(Exception):  # it is broken
            place.close()
        return RobotFault(f"{self._task.name} broke down after {self._step} steps: {reason}")
