"""What a LIBERO task wants: a conjunction of statements about the scene, as its task file says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flexor.errors import FlexorError
from flexor.sim.libero.assets import prepare

if TYPE_CHECKING:
    from flexor.sim.libero.stage import Stage
    from flexor.sim.libero.suites import SuiteTask

PREDICATES = {"on": 2, "in": 2, "open": 1, "close": 1, "turnon": 1, "turnoff": 1}
"""How many things each is said of."""


class GoalError(FlexorError):
    """A goal that cannot be understood, or that the scene cannot answer."""


@dataclass(frozen=True, slots=True)
class Part:
    """One statement, e.g. on(akita_black_bowl_1, plate_1).

    Attributes:
        predicate: one of PREDICATES.
        thing: what is to be somewhere, open, closed or turned on: an object, a fixture, or a region of one.
        place: where it is to be; empty for predicates of one thing.
    """

    predicate: str
    thing: str
    place: str = ""

    def holds(self, stage: Stage) -> bool:
        """Whether it is so right now, by LIBERO's own predicates.

        Raises:
            GoalError: the scene has no such thing.
        """
        return stage.holds(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The things it speaks of."""
        return (self.thing, self.place) if self.place else (self.thing,)


@dataclass(frozen=True, slots=True)
class Goal:
    """All its parts have to hold at the same time."""

    parts: tuple[Part, ...]

    def holds(self, stage: Stage) -> bool:
        """Whether every part holds right now.

        Raises:
            GoalError: the scene has no such thing.
        """
        return all(part.holds(stage) for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The things it speaks of."""
        return tuple(name for part in self.parts for name in part.names)


def parse_goal(states: Sequence[Sequence[str]]) -> Goal:
    """A goal from LIBERO's lists, e.g. [["on", "akita_black_bowl_1", "plate_1"]].

    Raises:
        GoalError: an unknown predicate, or the wrong number of things.
    """
    for predicate, *names in states:
        if PREDICATES.get(predicate) != len(names):
            raise GoalError(f"goal {predicate} {names}; expected one of {PREDICATES} (a predicate and its arguments)")
    return Goal(tuple(Part(*state) for state in states))


def read_goal(task: SuiteTask) -> Goal:
    """The goal in the task's file; no simulator is built.

    Raises:
        GoalError: as `parse_goal`.
        FlexorError: LIBERO cannot run here.
    """
    prepare()
    from libero.libero.envs.bddl_utils import robosuite_parse_problem

    return parse_goal(robosuite_parse_problem(str(task.bddl_file))["goal_state"])
