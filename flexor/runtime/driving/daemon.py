"""The robot-side daemon: runs episodes against a policy server, and keeps the arm safe when the server is not there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from flexor.errors import FlexorError
from flexor.runtime.driving.adviser import Adviser
from flexor.runtime.driving.asker import ChunkAsker, Plan
from flexor.runtime.driving.control_loop import ControlLoop, Live
from flexor.runtime.driving.daemon_settings import DaemonSettings
from flexor.runtime.driving.ending import Ending
from flexor.runtime.driving.guard import Guard
from flexor.runtime.driving.handshake import check_fit
from flexor.runtime.driving.intervention import Intervener
from flexor.runtime.driving.judge import Judge
from flexor.runtime.driving.pacer import Pacer
from flexor.runtime.driving.player import ChunkPlayer
from flexor.runtime.driving.run_report import EpisodeResult, RunReport
from flexor.runtime.driving.score_monitor import calibration_extra, calibration_id
from flexor.runtime.episodes.episode_schema import ADVISER, EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import CalibrationError
from flexor.runtime.robot import Robot
from flexor.runtime.serving.client import PolicyClient, ServerRefused, ServerTimeout

HELLO_INTERVAL_S = 0.2
READY_INTERVAL_S = 0.05


class ServerGone(FlexorError):
    """No policy server answers."""


class Daemon:
    """Drives one robot with the policy behind one client and records every episode.

    It owns neither: closing robot, client and recorder is the caller's. One thread uses it. `report` is up to date
    after every episode, also when run() raises.
    """

    def __init__(
        self,
        robot: Robot,
        client: PolicyClient,
        recorder: EpisodeRecorder,
        settings: DaemonSettings | None = None,
        *,
        calibration: Calibration | None = None,
        intervener: Intervener | None = None,
        adviser: Adviser | None = None,
        judge: Judge | None = None,
        report: RunReport | None = None,
        stopped: Callable[[], bool] = lambda: False,
        watch: Callable[[Live], None] = lambda live: None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            calibration: of the scores; None leaves them raw.
            intervener: may take the arm from the policy; None lets nobody. The server is told of a success in which
                it did that it is unknown how the policy would have ended.
            adviser: says at every step what it would do there, which is recorded as the label; None lets nobody.
            report: where the counts go; a new one when None.
            stopped: asked once a control step; True ends the episode as an abort and the run.
            watch: told how the present episode stands after every control step; must return quickly.
            now, sleep: the clock, in seconds.
        """
        self._robot, self._client, self._recorder = robot, client, recorder
        self._settings = settings or DaemonSettings()
        self._stopped, self._watch, self._now, self._sleep = stopped, watch, now, sleep
        self._delays_of: tuple[Plan, ChunkAsker] | None = None
        self._calibration, self._intervener, self._judge = calibration, intervener, judge
        self._adviser = adviser
        self.report = RunReport() if report is None else report
        self.report.calibration = calibration_id(calibration)

    def run(self, episodes: int, seed: int, tasks: Sequence[str]) -> RunReport:
        """Run `episodes` episodes, taking the tasks in turn; episode i has the seed `seed` + i.

        An episode that loses its server is aborted, and the next one waits for a server again.

        Raises:
            ServerGone: no server was ready within connect_timeout_s.
            Mismatch: the policy does not fit the robot.
            CalibrationError: the calibration is of another policy, or does not know one of the tasks.
            FlexorError: an unknown task, the recorder's disk, or whoever judges lets no episode begin.
        """
        spec = self._robot.spec
        known = {*spec.tasks, *itertools.chain.from_iterable(spec.alternatives.values())}
        unknown = [task for task in tasks if known and task not in known]
        if unknown or not tasks:
            wrong = f"has no task {', '.join(unknown)}" if unknown else "was given no task"
            raise FlexorError(f"robot {spec.name} {wrong}; its tasks are {', '.join(spec.tasks) or 'any sentence'}")
        if self._calibration is not None:
            self._calibration.check_tasks(tasks)
        for index in range(episodes):
            if self._judge is not None and not self._await_ready(self._judge, Live(index, tasks[index % len(tasks)])):
                break
            served = self._connect(tasks[index % len(tasks)], seed + index)
            if served is None:
                break
            try:
                result = self._episode(index, seed + index, tasks[index % len(tasks)], *served)
            except BaseException:
                self._give_up()
                raise
            self.report.results.append(result)
        return self.report

    def _await_ready(self, judge: Judge, live: Live) -> bool:
        """Wait until whoever judges lets the next episode begin; False when the user stopped."""
        live.note, give_up = "ready?", self._now() + judge.ready_s
        while not judge.ready():
            if self._stopped():
                return False
            if self._now() >= give_up:
                raise FlexorError(
                    f"the {judge.source} did not let episode {live.index + 1} begin within {judge.ready_s:g} s; start "
                    "the run again when somebody is there"
                )
            self._watch(live)
            self._sleep(READY_INTERVAL_S)
        return True

    def _connect(self, task: str, seed: int) -> tuple[dict[str, Any], str] | None:
        """Open an episode on a ready server whose policy fits; its hello and adapter id, None when the user stopped."""
        deadline = self._now() + self._settings.connect_timeout_s
        trouble = "no answer"
        while self._now() < deadline:
            if self._stopped():
                return None
            try:
                hello = self._client.hello()
                if hello["ready"]:
                    check_fit(hello, self._robot.spec)
                    return hello, self._begin(hello, task, seed)
                trouble = "it is still warming up"
            except (ServerTimeout, ServerRefused) as error:
                trouble = str(error)
            self._sleep(HELLO_INTERVAL_S)
        raise ServerGone(
            f"no policy server is ready after {self._settings.connect_timeout_s:g} s ({trouble}); "
            "start one with `flexor serve BUNDLE`, or give its address"
        )

    def _begin(self, hello: dict[str, Any], task: str, seed: int) -> str:
        """Open an episode on the server and return its adapter id; all but that the calibration has to be for."""
        adapter = self._client.begin_episode(task, seed)
        if self._calibration is not None:
            try:
                self._calibration.check(self._scoring(hello, self._calibration.scoring.adapter))
            except CalibrationError:
                self._tell_server(Ending("abort"))
                raise
        return adapter

    def _calibration_for(self, adapter: str) -> Calibration | None:
        """The calibration, in an episode that plays the adapter it was measured with: for others it bounds nothing.

        A server tries and exchanges adapters while the robot works, which must not end the run: then scores are raw.
        """
        fits = self._calibration is not None and self._calibration.scoring.adapter == adapter
        return self._calibration if fits else None

    def _scoring(self, hello: dict[str, Any], adapter: str) -> Scoring:
        return Scoring.of(hello, adapter, self._robot.spec.name, f"real time, splice {self._settings.splice}")

    def _episode(self, index: int, seed: int, task: str, hello: dict[str, Any], adapter: str) -> EpisodeResult:
        robot, recorder, settings = self._robot, self._recorder, self._settings
        spec = robot.spec
        live = Live(index, task)
        holds_before = self.report.holds
        calibration, scale = self._calibration_for(adapter), self._client.velocity_scale
        guard = settings.guard.model_copy(update={"max_speed": scale * settings.guard.max_speed})
        bundle = f"{hello['bundle']}@{hello['hash'][:12]}"  # as the provenance of its chunks says it
        begun = robot.reset(seed, task)
        recorder.begin(
            EpisodeMeta(
                robot=spec.name,
                task=task,
                prompt=begun.prompt or spec.tasks.get(task, task),
                seed=seed,
                bundle=bundle,
                adapter=adapter,
                hz=spec.hz,
                cameras=tuple(hello["cameras"]),
                extra={
                    **spec.conditions,
                    **({} if self._intervener is None else {"intervener": self._intervener.name}),
                    **({} if self._adviser is None else {ADVISER: self._adviser.name}),
                    "daemon": settings.model_dump(),
                    "policy": hello,
                    **calibration_extra(self._scoring(hello, adapter), calibration),
                    **({} if scale == 1.0 else {"velocity_scale": scale}),
                },
            )
        )
        continued = hello["rtc_max_delay"] if settings.splice == "prefix" else 0
        pacer = Pacer(1.0 / spec.hz, self._now, self._sleep)
        loop = ControlLoop(
            robot,
            self._asker(Plan(hello["horizon"], hello["replan"], continued)),
            ChunkPlayer(spec.action_dim),
            Guard(spec, guard),
            pacer,
            recorder,
            self.report,
            live,
            bundle=bundle,
            cameras=list(hello["cameras"]),
            calibration=calibration,
            intervener=self._intervener,
            adviser=self._adviser,
            judge=self._judge,
            hold_limit_s=settings.hold_limit_s,
            now=self._now,
            stopped=self._stopped,
            watch=self._watch,
        )
        ending = loop.play()
        self.report.overruns += pacer.overruns
        if ending.reason:
            recorder.event(live.step, "abort", {"reason": ending.reason})
        for event in ending.failure_events:
            recorder.event(*event.record())
        path = recorder.end(ending.outcome, ending.failure_label, self._source if ending.judged else "recorder")
        turns, intervened = (loop.turns.turns, loop.turns.steps) if loop.turns is not None else (0, 0)
        # To the server, which judges adapters: by itself the policy did not succeed.
        self._tell_server(Ending("failure") if intervened and ending.outcome == "success" else ending)
        holds = self.report.holds - holds_before
        monitor = loop.monitor
        return EpisodeResult(
            index,
            task,
            seed,
            ending.outcome,
            ending.reason,
            live.step,
            holds,
            float(np.mean(monitor.bits)) if monitor.bits else None,
            path,
            monitor.calibrated_max,
            monitor.alarm_step,
            ending.failure_label,
            turns,
            intervened,
        )

    def _asker(self, plan: Plan) -> ChunkAsker:
        """The asker of the last episode, with what it knows of the latency, as long as the plan is the same."""
        if self._delays_of is None or self._delays_of[0] != plan:
            self._delays_of = plan, ChunkAsker(self._client, plan, 1.0 / self._robot.spec.hz, self._now)
        asker = self._delays_of[1]
        asker.reset()
        return asker

    @property
    def _source(self) -> str:
        """Whose word a success or a failure is."""
        if self._judge is not None:
            return self._judge.source
        return "sim" if self._robot.spec.name.startswith("sim:") else "classifier"

    def _give_up(self) -> None:
        """Before an error goes on: hold the arm, keep what was recorded, let the server know; each whatever happens."""
        with ExitStack() as steps:  # the last one entered is the first to happen
            steps.callback(self._tell_server, Ending("abort"))
            steps.callback(self._recorder.close)
            steps.callback(self._robot.hold)

    def _tell_server(self, ending: Ending) -> None:
        """The episode is on disk already, so a server that cannot be told is counted, and the run goes on."""
        try:
            self._client.end_episode(ending.outcome, ending.failure_label, self._source)
        except (ServerTimeout, ServerRefused):
            self.report.refusals["episode.end"] += 1
