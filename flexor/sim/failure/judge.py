"""FailureJudge: watches one episode of one task and says what went wrong, and which of it explains a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from flexor.runtime.robot import FailureEvent
from flexor.sim.failure.collision import CollisionWatch
from flexor.sim.failure.miss import MissWatch
from flexor.sim.failure.moment import Moment, MomentReader
from flexor.sim.failure.occlusion import OcclusionWatch
from flexor.sim.failure.scene import WatchedScene
from flexor.sim.failure.sight import Sight
from flexor.sim.failure.slip import SlipWatch

LABELS = ("collision", "grasp_slip", "reach_miss", "occlusion", "timeout")
"""Every label; of two events of the same step the one named earlier here leads."""

PUSHED = 0.02  # m nearer to its goal than when something went wrong: the push goes on


def leading(events: Sequence[FailureEvent]) -> str:
    """The label that explains a failure (at least one event).

    What was never put right comes before what was, then what came first; `timeout` only where nothing else happened.
    """

    def rank(event: FailureEvent) -> tuple[bool, bool, int, int]:
        return event.label == "timeout", event.recovered_at is not None, event.step, LABELS.index(event.label)

    return min(events, key=rank).label


class FailureJudge:
    """Make one when the scene has been reset, let it look after every control step, and finish() at the end.

    It reads the simulator's state and changes nothing; no picture is drawn. Where a task has several parts it watches
    the one that is being done: slips and misses are of that part's item, and a part that gets done shows that what
    went wrong before was put right.
    """

    def __init__(self, scene: WatchedScene) -> None:
        self._reader = MomentReader(scene)
        self._closing_steps = scene.anatomy.closing_steps
        self._sight = Sight(scene.anatomy)
        self._collision = CollisionWatch()
        first = self._reader.read(-1)
        self._collision.look(first)
        self._aim = first.aim
        self._slip, self._miss = SlipWatch(), MissWatch(first.aim.way, self._closing_steps)
        self._occlusions: dict[str, OcclusionWatch] = {}
        self._events: list[FailureEvent] = []
        self._goal_distance = np.inf  # the item's, when the last event fired

    @property
    def events(self) -> tuple[FailureEvent, ...]:
        """All that went wrong so far, by step."""
        return tuple(sorted(self._events, key=lambda event: event.step))

    def look(self, step: int) -> None:
        """Judge the state after control step `step`, counted from 0."""
        moment = self._reader.read(step)
        if moment.aim != self._aim:
            self._turn_to(moment)
        carried = self._slip.carried
        found = [self._slip.look(moment) if moment.aim.way == "carry" else None]
        if self._slip.carried > carried or self._pushes_on(moment):
            self._recover(step, lambda event: True)
        found.append(self._miss.look(moment, self._slip.carrying))
        found.extend(self._collision.look(moment))
        found.extend(self._occlusion(thing).look(step) for thing in (moment.aim.item, moment.aim.target) if thing)
        self._note(moment, [event for event in found if event is not None])
        self._recover(step, self._seen_since)

    def finish(self, step: int, success: bool) -> str | None:
        """End the episode after control step `step`, once; the leading label, None for a success."""
        if success:
            return None
        missed = self._miss.conclude(step)
        self._events += [] if missed is None else [missed]
        self._events.append(FailureEvent("timeout", step, {"steps": step + 1}))
        return leading(self._events)

    def _turn_to(self, moment: Moment) -> None:
        """Another part of the task is being done from this moment on."""
        if moment.aim.finished > self._aim.finished:
            self._recover(moment.step, lambda event: True)
        self._aim, self._goal_distance = moment.aim, moment.goal_distance
        self._slip, self._miss = SlipWatch(), MissWatch(moment.aim.way, self._closing_steps)

    def _occlusion(self, thing: str) -> OcclusionWatch:
        if thing not in self._occlusions:
            self._occlusions[thing] = OcclusionWatch(self._sight, thing)
        return self._occlusions[thing]

    def _note(self, moment: Moment, found: list[FailureEvent]) -> None:
        if found:
            self._events += found
            self._goal_distance = moment.goal_distance

    def _pushes_on(self, moment: Moment) -> bool:
        pushed = moment.aim.way == "push" and moment.aim.item in moment.touched
        return pushed and moment.goal_distance < self._goal_distance - PUSHED

    def _seen_since(self, event: FailureEvent) -> bool:
        """Whether it is an occlusion that is over, and nothing else went wrong in or shortly after it."""
        if event.label != "occlusion" or not self._occlusions[event.data["of"]].over:
            return False
        return not any(other.step >= event.step and other.label != "occlusion" for other in self._events)

    def _recover(self, step: int, put_right: Callable[[FailureEvent], bool]) -> None:
        self._events = [
            replace(event, recovered_at=step) if event.recovered_at is None and put_right(event) else event
            for event in self._events
        ]
