"""Plays one episode at the robot's rate: ask early, splice, guard, act or hold, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.driving.adviser import Adviser
from flexor.runtime.driving.asker import ChunkAsker
from flexor.runtime.driving.ending import Ending
from flexor.runtime.driving.guard import Guard
from flexor.runtime.driving.intervention import FRAME_EVERY, Intervener, Situation, Turns
from flexor.runtime.driving.judge import Judge
from flexor.runtime.driving.pacer import Pacer
from flexor.runtime.driving.player import ChunkPlayer
from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.driving.score_monitor import ScoreMonitor
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.observation import Observation
from flexor.runtime.robot import FailureEvent, Robot, Status
from flexor.runtime.serving.client import Reply

SILENCE, GUARD = "silence", "guard"
NOTHING_SAID = None, None  # an adviser's action and plan
SLACK_SCORES = ("ace_bits", "gauss_nats")
WAKE_UP_S = 0.001  # a socket poll counts whole milliseconds, so the rest of a period is slept


@dataclass(slots=True)
class Live:
    """An episode as it stands, for whoever watches; `note` says what it waits for, or who drives if not the policy."""

    index: int
    task: str
    step: int = 0
    holds: int = 0
    latency_ms: float | None = None
    entropy_bits: float | None = None
    alarm_step: int | None = None
    note: str = ""


class ControlLoop:
    """One episode; make a new one for the next.

    The chunk for control step s is asked for with the observation of s while earlier actions are still playing.
    A step without an action to play, or with one that the guard refuses, holds the arm. When no action could be
    played for hold_limit_s the arm stays held and the episode ends as an abort.

    Before each step an intervener may take the arm: what it wants passes the same guard, is recorded as what the policy
    should have done, and nothing that the policy planned before is played after. When it hands back, the arm is held
    until the policy has answered what it is shown then.

    Where somebody judges, only they end the episode, or its step limit does; what the robot thinks of success and of
    what went wrong is not used.
    """

    def __init__(
        self,
        robot: Robot,
        asker: ChunkAsker,
        player: ChunkPlayer,
        guard: Guard,
        pacer: Pacer,
        recorder: EpisodeRecorder,
        report: RunReport,
        live: Live,
        *,
        bundle: str,
        cameras: list[str],
        calibration: Calibration | None,
        intervener: Intervener | None = None,
        adviser: Adviser | None = None,
        judge: Judge | None = None,
        hold_limit_s: float,
        now: Callable[[], float],
        stopped: Callable[[], bool],
        watch: Callable[[Live], None],
    ) -> None:
        self._robot, self._asker, self._player, self._guard = robot, asker, player, guard
        self._pacer, self._recorder, self._report, self._live = pacer, recorder, report, live
        self._bundle, self._cameras, self._hold_limit_s = bundle, cameras, hold_limit_s
        self._now, self._stopped, self._watch = now, stopped, watch
        self._period_s = 1.0 / robot.spec.hz
        self._held_since: float | None = None
        self._trouble = SILENCE  # what kept the last action away
        self._still = np.zeros(robot.spec.action_dim, np.float32)  # a hold as an action: no motion, gripper as it was
        self._still[-1] = robot.spec.action_low[-1]
        self._looked = -1  # the step at which the cameras were last read
        self._events: tuple[FailureEvent, ...] = ()
        self.monitor = ScoreMonitor(calibration, recorder.event)
        self._judge = judge
        if judge is not None:
            judge.begin()
        self._adviser = adviser
        self.turns = None if intervener is None else Turns(intervener, recorder.event, report)

    def play(self) -> Ending:
        """Play to the end of the episode. The robot has been reset, the recorder has begun."""
        ending = self._play()
        if self.turns is not None:
            self.turns.end(self._live.step)
        return ending

    def _play(self) -> Ending:
        if not self._await_first_chunk():
            self._robot.hold()
            return self._abort()
        self._pacer.start()
        step = 0
        while True:
            status = self._control(step)
            if self._judge is not None:
                status = Status(status.step, False, None)
            self._events = status.events
            step += 1
            self._live.step = step
            self._live.note = "" if self.turns is None or not self.turns.active else self.turns.by
            self._watch(self._live)
            last = step >= self._robot.spec.max_steps
            if self._judge is not None and (ending := self._judged(self._judge, last)) is not None:
                return ending
            if status.done or last:
                outcome = {True: "success", False: "failure", None: "unknown"}[status.success]
                return Ending(outcome, "", status.failure, status.events, status.success is not None)
            if self._stopped() or self._held_for() > self._hold_limit_s:
                self._robot.hold()
                return self._abort(status.events)
            self._wait_for_period(step)

    def _judged(self, judge: Judge, last: bool) -> Ending | None:
        """What whoever judges says after a step; the arm is held for their answer after the last one."""
        verdict = judge.verdict()
        give_up = self._now() + judge.answer_s
        while last and verdict is None and self._now() < give_up and not self._stopped():
            self._live.note = "how did it end?"
            self._watch(self._live)
            self._robot.hold()
            self._pacer.finish()
            verdict = judge.verdict()
        if verdict is None:
            return None
        self._robot.hold()
        return Ending.said(verdict, judge.source)

    def _await_first_chunk(self) -> bool:
        """Ask with the observation of step 0; the arm stands still and the clock of the episode does not run yet."""
        self._held_since = self._now()
        asked_at = -np.inf
        observation = self._look(0)
        while self._player.action(0) is None:
            now = self._now()
            if self._stopped() or self._held_for() > self._hold_limit_s:
                return False
            # Once it was refused, ask again at the control rate; once it is lost, when its chunk would be of no use.
            patience = self._asker.plan.horizon * self._period_s if self._asker.waiting else self._period_s
            if now - asked_at >= patience:
                asked_at = now
                self._asker.ask(observation, 0, now, self._player)
            if (reply := self._asker.receive(self._period_s)) is not None:
                self._take(reply, 0)
        self._held_since = None
        return True

    def _control(self, step: int) -> Status:
        began = self._now()
        if self.turns is not None and (status := self._intervene(self.turns, step)) is not None:
            return status
        state: NDArray[np.float32] | None = None
        if self._asker.due(step, self._player.anchor):
            observation = self._look(step)
            state = observation.state
            self._asker.ask(observation, step, began, self._player)
        if self._adviser is not None and step % FRAME_EVERY == 0 and self._looked != step:
            self._look(step)
        if state is None:
            state = self._robot.state()
        # after the policy was asked: it does not wait for an adviser
        ahead = self._asker.plan.horizon if self._looked == step else 0  # of what nobody saw nothing is learned
        advice = NOTHING_SAID if self._adviser is None else self._adviser.advise(step, ahead)
        return self._act(step, state, self._player.action(step), advice)

    def _intervene(self, turns: Turns, step: int) -> Status | None:
        """Let whoever may take the arm act in this step; None when it is the policy's."""
        state, begins, monitor = self._robot.state(), not turns.active, self.monitor
        gripper = float(self._still[-1])
        takeover = turns.ask(Situation(step, state, monitor.suspicion, monitor.suspected_step, self._events, gripper))
        if takeover is None:
            return None
        if begins:
            self._player.reset()
            self._asker.reset()
        if turns.frame_due(step) and not takeover.idle and self._looked != step:
            self._look(step)
        return self._act(step, state, takeover.action, intervention=True)

    def _act(
        self,
        step: int,
        state: NDArray[np.float32],
        wanted: NDArray[np.float32] | None,
        advice: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None] = NOTHING_SAID,
        intervention: bool = False,
    ) -> Status:
        """Play what is wanted as far as the guard lets it, or hold; record it, and what somebody would have done."""
        action = None
        if wanted is not None:
            action, events = self._guard.check(wanted, state)
            for event in events:
                self._report.guard_events[event.kind] += 1
                self._recorder.event(step, f"guard.{event.kind}", event.data)
            if action is None:
                self._trouble = GUARD
        # not what the guard found no number
        said, plan = (wanted if action is not None else None, None) if intervention else advice
        self._recorder.step(step, state, self._still if action is None else action, said, intervention, plan)
        if action is None:
            return self._hold(step)
        self._held_since = None
        self._still[-1] = action[-1]
        return self._robot.act(action)

    def _hold(self, step: int) -> Status:
        if self._held_since is None:
            self._held_since = self._now()
            self._recorder.event(step, "hold", {"trouble": self._trouble})
        self._report.holds += 1
        self._live.holds += 1
        return self._robot.hold()

    def _look(self, step: int) -> Observation:
        """Read the robot, keep the cameras that the policy knows, and record what it will see."""
        seen = self._robot.observe()
        images = {camera: seen.images[camera] for camera in self._cameras}
        self._recorder.frames(step, images)
        self._looked = step
        return Observation(images, seen.state, seen.prompt)

    def _wait_for_period(self, next_step: int) -> None:
        """Take what comes until the period ends."""
        left = max(0.0, self._pacer.remaining_s - WAKE_UP_S)
        while (reply := self._asker.receive(left if self._asker.waiting else 0.0)) is not None:
            self._take(reply, next_step)
            left = max(0.0, self._pacer.remaining_s - WAKE_UP_S)
        self._pacer.finish()

    def _take(self, reply: Reply, next_step: int) -> None:
        """Splice a chunk in for `next_step`, or note why there is none."""
        chunk = reply.chunk
        if chunk is None:
            self._report.refusals[reply.code] += 1
            if reply.type not in ("timeout", "superseded"):  # those two are silence, told by the client
                self._trouble = f"{reply.code}: {reply.message}"
            self._recorder.event(next_step, "refused", {"anchor": reply.step, "code": reply.code, "why": reply.message})
            return
        if (other := chunk.provenance.bundle) != self._bundle:
            # A server that came back with another policy: its chunks may not even have the right number of columns.
            self._report.refusals["other_bundle"] += 1
            self._trouble = f"other_bundle: the server now serves {other}, this episode began with {self._bundle}"
            self._recorder.event(next_step, "refused", {"anchor": reply.step, "code": "other_bundle", "bundle": other})
            return
        self._report.latencies_ms.append(reply.round_trip_ms)
        self._live.latency_ms = reply.round_trip_ms
        self._recorder.chunk(reply.step, chunk)
        self._note_scores(reply, chunk.scores, next_step)
        if self._player.splice(reply.step, chunk.actions, next_step):
            self._trouble = SILENCE
        else:
            self._report.stale += 1
            self._trouble = f"late: the last reply took {reply.round_trip_ms:.0f} ms"
            self._recorder.event(next_step, "stale", {"anchor": reply.step, "latency_ms": reply.round_trip_ms})

    def _note_scores(self, reply: Reply, scores: Mapping[str, float], next_step: int) -> None:
        """The slack scores that ride with a chunk belong to an earlier one; the rest is its own."""
        self.monitor.note(reply.step, {name: scores[name] for name in scores if name not in SLACK_SCORES}, next_step)
        if reply.scored_step is not None:
            slack = {name: scores[name] for name in SLACK_SCORES}
            self.monitor.note(reply.scored_step, slack, next_step)
            self._report.entropy_bits.append(slack["ace_bits"])
            self._live.entropy_bits = slack["ace_bits"]
            self._live.alarm_step = self.monitor.alarm_step

    def _held_for(self) -> float:
        return 0.0 if self._held_since is None else self._now() - self._held_since

    def _abort(self, events: tuple[FailureEvent, ...] = ()) -> Ending:
        if self._stopped():
            return Ending("abort", "stopped by the user", None, events)
        horizon_ms = self._asker.plan.horizon * self._period_s * 1000.0
        why = {
            SILENCE: "the policy server did not answer",
            GUARD: "the guard refused every action, see the guard.* events of the episode",
        }.get(self._trouble, f"the policy server gave nothing playable ({self._trouble}; a chunk is good for "
                             f"{horizon_ms:.0f} ms)")  # fmt: skip
        return Ending("abort", f"{why} for {self._hold_limit_s:g} s, the arm is held", None, events)
