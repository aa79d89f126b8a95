"""One episode in lockstep: the simulation waits for the policy, so the result depends on seeds and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.runtime.driving.guard import Guard, GuardSettings
from flexor.runtime.driving.handshake import check_fit
from flexor.runtime.driving.player import ChunkPlayer
from flexor.runtime.driving.score_monitor import ScoreMonitor, calibration_extra
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.robot import FailureEvent, Robot, RobotFault, Status
from flexor.runtime.serving.engine_thread import ServedPolicy


class PlayedPolicy(ServedPolicy, Protocol):
    """What is needed of a policy that is played here; inference.policy.Policy is one."""

    executed: int
    """Actions of a chunk that are played, and scored."""


@dataclass(frozen=True, slots=True)
class LockstepResult:
    """How one episode went.

    Attributes:
        entropy_bits_mean: over its chunks, None when they were not scored.
        calibrated_max: of the calibrated primary score; None without a calibration.
        alarm_step: when it first went above 2.0, None when it never did.
        failure_label: what explains a failure (docs/failures.md); None for a success.
        failure_events: all that went wrong on the way, also in a success.
        fault: why the robot broke down, which ended the episode as a failure; None when it did not.
    """

    task: str
    seed: int
    success: bool
    steps: int
    entropy_bits_mean: float | None
    guard_events: int
    calibrated_max: float | None = None
    alarm_step: int | None = None
    failure_label: str | None = None
    failure_events: tuple[FailureEvent, ...] = ()
    fault: str | None = None


def noise_seed(seed: int, step: int) -> int:
    """The seed of the flow noise at control step `step` of the episode with seed `seed`: 63 bits, well mixed."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, slots=True)
class Delay:
    """How late a chunk comes, in control steps, and how it continues the one before (DaemonSettings.splice)."""

    steps: int = 0
    splice: Literal["replan", "prefix"] = "prefix"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a policy is let loose on a robot, where a protocol has a say in it.

    Attributes:
        replan: actions of a chunk after which a new one begins; None means the policy's own number.
        guard: limits beside the robot's own.
    """

    replan: int | None = None
    guard: GuardSettings = field(default_factory=GuardSettings)


class Lockstep:
    """A robot and a policy in one process, no clock. A new chunk every `replan` steps, asked for `delay` earlier."""

    def __init__(
        self,
        robot: Robot,
        policy: PlayedPolicy,
        recorder: EpisodeRecorder | None,
        entropy: bool,
        delay: Delay | None = None,
        calibration: Calibration | None = None,
        manner: Manner | None = None,
    ) -> None:
        """
        Args:
            recorder: keeps the episodes; None keeps none.
            entropy: whether every chunk is scored.
            delay: none when None.
            calibration: of the scores; None leaves them raw.
            manner: as the policy wants it when None.

        Raises:
            Mismatch: the policy does not fit the robot.
            CalibrationError: the policy does not say how it scores, or the calibration is another's.
            FlexorError: a delay or a replan interval that the policy's chunks cannot bridge.
        """
        manner = manner or Manner()
        self._robot, self._policy, self._recorder, self._entropy = robot, policy, recorder, entropy
        self._delay = delay or Delay()
        self._about = policy.describe()
        check_fit(self._about, robot.spec)
        self._replan = manner.replan or self._about["replan"]
        if not 1 <= self._replan <= self._about["horizon"]:
            raise FlexorError(
                f"replan is {self._replan} steps; expected 1 to {self._about['horizon']}, the actions of a chunk of "
                f"{self._about['bundle']}"
            )
        policy.executed = self._replan
        longest = self._about["horizon"] // 2  # a chunk comes after d steps and has to last until the next one does
        if self._delay.splice == "prefix":
            longest = min(longest, self._about["rtc_max_delay"])
        if not 0 <= self._delay.steps <= longest:
            raise FlexorError(f"delay is {self._delay.steps} steps; expected 0 to {longest} for this bundle and splice")
        driving = f"lockstep, delay {self._delay.steps}, splice {self._delay.splice}"
        if self._replan != self._about["replan"]:
            driving += f", replan {self._replan}"
        self._scoring = Scoring.of(self._about, "base", robot.spec.name, driving)
        self._calibration = calibration
        if calibration is not None:
            calibration.check(self._scoring)
        self._player = ChunkPlayer(robot.spec.action_dim)
        self._guard = Guard(robot.spec, manner.guard)

    def play(self, task: str, seed: int, alive: Callable[[], None] = lambda: None) -> LockstepResult:
        """Play one episode to its end.

        A robot that breaks down makes it a failure. Where it could not even begin, nothing is recorded.

        Args:
            alive: called before each chunk that is asked for.

        Raises:
            CalibrationError: the calibration does not know the task.
        """
        if self._calibration is not None:
            self._calibration.check_tasks([task])
        robot, recorder = self._robot, self._recorder
        try:
            begun = robot.reset(seed, task)
        except RobotFault as error:
            return LockstepResult(task, seed, False, 0, None, 0, fault=str(error))
        self._player.reset()
        if recorder is None:
            return self._play(task, seed, alive)
        with recorder:  # an exception leaves an aborted episode, not an open one
            recorder.begin(self._meta(task, seed, begun.prompt))
            result = self._play(task, seed, alive)
            for event in result.failure_events:
                recorder.event(*event.record())
            recorder.end("success" if result.success else "failure", result.failure_label, "sim")
            return result

    def _play(self, task: str, seed: int, alive: Callable[[], None]) -> LockstepResult:
        robot, recorder, spec = self._robot, self._recorder, self._robot.spec
        monitor = ScoreMonitor(self._calibration, self._event)
        guarded = 0
        coming: tuple[int, NDArray[np.float32]] | None = None
        still = np.zeros(spec.action_dim, np.float32)  # a hold as an action: no motion, gripper as it was
        still[-1] = spec.action_low[-1]
        interval = max(1, self._replan - self._delay.steps)
        fault: str | None = None
        for step in range(spec.max_steps):
            state = robot.state()
            coming = self._arrived(coming, step)
            if coming is None and (self._player.anchor is None or step >= self._player.anchor + interval):
                alive()
                coming = self._arrived((step, self._plan(step, seed, monitor)), step)
            wanted = self._player.action(step)
            assert wanted is not None  # replan <= horizon and 2 delays <= horizon: both are checked at birth
            action, events = self._guard.check(wanted, state)
            guarded += len(events)
            if recorder is not None:
                recorder.step(step, state, still if action is None else action)
                for event in events:
                    recorder.event(step, f"guard.{event.kind}", event.data)
            if action is not None:
                still[-1] = action[-1]
            try:
                status = robot.hold() if action is None else robot.act(action)
            except RobotFault as error:
                self._event(step, "robot.fault", {"reason": str(error)})
                status, fault = Status(step, done=True, success=False), str(error)
            if status.done:
                break
        if status.success is None:
            raise FlexorError(f"robot {spec.name} cannot judge success, so it cannot be evaluated; use a simulated one")
        mean = float(np.mean(monitor.bits)) if monitor.bits else None
        return LockstepResult(
            task,
            seed,
            status.success,
            step + 1,
            mean,
            guarded,
            monitor.calibrated_max,
            monitor.alarm_step,
            status.failure,
            status.events,
            fault,
        )

    def _arrived(
        self, coming: tuple[int, NDArray[np.float32]] | None, step: int
    ) -> tuple[int, NDArray[np.float32]] | None:
        """Splice the chunk that is under way once its delay has passed; what is still under way then."""
        # The arm does not move before its first chunk is there, so that one is never late.
        if coming is None or (self._player.anchor is not None and step < coming[0] + self._delay.steps):
            return coming
        self._player.splice(*coming, step)
        return None

    def _event(self, step: int, kind: str, data: Mapping[str, Any]) -> None:
        if self._recorder is not None:
            self._recorder.event(step, kind, data)

    def _plan(self, step: int, seed: int, monitor: ScoreMonitor) -> NDArray[np.float32]:
        """Look and think; returns the actions from `step` on."""
        seen = self._robot.observe()
        observation = Observation({name: seen.images[name] for name in self._about["cameras"]}, seen.state, seen.prompt)
        noise = noise_seed(seed, step)
        chunk = self._policy.infer(observation, noise, self._committed(step))
        if self._entropy:
            scores = self._policy.surprise(noise)
            chunk = ActionChunk(chunk.actions, chunk.provenance, chunk.timing_ms, {**chunk.scores, **scores})
        if self._recorder is not None:
            self._recorder.frames(step, observation.images)
            self._recorder.chunk(step, chunk)
        monitor.note(step, chunk.scores, step)
        return chunk.actions

    def _committed(self, step: int) -> NDArray[np.float32] | None:
        """What the chunk for `step` has to begin with: the actions that will have been played when it comes."""
        if self._delay.splice == "replan":
            return None
        ahead = self._player.committed(step, self._delay.steps)
        return ahead.copy() if len(ahead) else None

    def _meta(self, task: str, seed: int, prompt: str | None) -> EpisodeMeta:
        spec, about = self._robot.spec, self._about
        return EpisodeMeta(
            robot=spec.name,
            task=task,
            prompt=prompt or spec.tasks.get(task, task),
            seed=seed,
            bundle=f"{about['bundle']}@{about['hash'][:12]}",
            adapter="base",
            hz=spec.hz,
            cameras=tuple(about["cameras"]),
            extra={
                **spec.conditions,
                "lockstep": {**asdict(self._delay), "replan": self._replan},
                "policy": about,
                **calibration_extra(self._scoring, self._calibration),
            },
        )
