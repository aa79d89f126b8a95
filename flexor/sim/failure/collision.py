"""collision: the robot, or what it carries, presses on what it should leave alone, or has moved it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.robot import FailureEvent
from flexor.sim.failure.moment import Moment

FORCE = 10.0  # N
PRESS_STEPS = 2  # control steps in a row with that force
APART_STEPS = 10  # control steps without touch, after which pressing on the same thing is a new collision
MOVED = 0.03  # m from where the episode found it
REST_MOVE = 0.001  # m a control step: what moves less has come to rest


class CollisionWatch:
    """Follows forces on, and places of, everything that is neither the robot nor the task's item."""

    def __init__(self) -> None:
        self._pressing: dict[str, int] = {}  # control steps in a row with FORCE, by what is pressed on
        self._apart: dict[str, int] = {}  # control steps since the last touch, of what was collided with
        self._found: dict[str, NDArray[np.float64]] = {}
        self._settled: set[str] = set()
        self._moved: set[str] = set()

    def look(self, moment: Moment) -> list[FailureEvent]:
        """Take the next moment (the first one says where things were found); the events that begin with it."""
        return [*self._presses(moment), *self._moves(moment)]

    def _presses(self, moment: Moment) -> list[FailureEvent]:
        force: dict[str, float] = {}
        by: dict[str, tuple[float, str]] = {}
        for (part, thing), newton in moment.pressed.items():
            if thing == moment.gripped:  # the grip's own force; what is carried off has moved
                continue
            force[thing] = force.get(thing, 0.0) + newton
            by[thing] = max(by.get(thing, (0.0, "")), (newton, part))
        self._apart = {
            thing: 0 if thing in force else steps + 1 for thing, steps in self._apart.items() if steps < APART_STEPS
        }
        self._pressing = {thing: self._pressing.get(thing, 0) + 1 for thing, newton in force.items() if newton >= FORCE}
        events = []
        for thing, steps in self._pressing.items():
            if steps >= PRESS_STEPS and thing not in self._apart:
                self._apart[thing] = 0
                data = {"how": "pressed", "on": thing, "by": by[thing][1], "force_n": round(force[thing], 1)}
                events.append(FailureEvent("collision", moment.step - PRESS_STEPS + 1, data))
        return events

    def _moves(self, moment: Moment) -> list[FailureEvent]:
        events = []
        for thing, place in moment.movable.items():
            found = self._found.setdefault(thing, place)
            if thing not in self._settled:
                self._settle(moment, thing, place)
                continue
            distance = float(np.linalg.norm(place - found))
            if distance > MOVED and thing not in self._moved:
                self._moved.add(thing)
                data = {"how": "moved", "on": thing, "distance_m": round(distance, 4)}
                events.append(FailureEvent("collision", moment.step, data))
        return events

    def _settle(self, moment: Moment, thing: str, place: NDArray[np.float64]) -> None:
        """Scenes may begin with things that still fall: where one was found is where it first came to rest."""
        if moment.step >= 0 and np.linalg.norm(place - self._found[thing]) < REST_MOVE:
            self._settled.add(thing)
        elif thing not in moment.touched:
            self._found[thing] = place
