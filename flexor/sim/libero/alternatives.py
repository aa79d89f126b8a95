"""What else can be asked for in a task's scene: other tasks' sentences, and what they come to there.

LIBERO gives each layout one task, so a policy can score without reading. Counterfactual demonstrations are made of
all these; `flexor eval --counterfactual` measures those that tell whether a policy reads.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from flexor.sim.libero.assets import prepare
from flexor.sim.libero.goal import Goal, Part, read_goal
from flexor.sim.libero.suites import Suite, SuiteError, SuiteTask, find_suite

ASKED_OF = {
    "libero_spatial": ("libero_spatial",),
    "libero_object": ("libero_object",),
    "libero_goal": ("libero_goal",),
    "libero_10": ("libero_10", "libero_90"),
    "libero_90": ("libero_90", "libero_10"),
}
"""Whose tasks are asked for in the scenes of a suite; the last two are told apart by the names of their scenes."""

AT = "@"
"""Between the name of what is asked for and that of the task whose scene it is asked for in."""

SECOND_BOWL = "akita_black_bowl_2"
"""libero_spatial: in each layout this bowl is where another task's target is, and could be meant as well."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another task, as it comes to in a scene that is not its own.

    Attributes:
        name: of the other task.
        sentence: how it is asked for.
        goal: in the names of the scene that it is asked for in.
    """

    name: str
    sentence: str
    goal: Goal

    def tells_reading_from(self, own: Goal) -> bool:
        """Whether it is not done by who does the scene's own task, nor the other way: no goal is a part of the other.

        A policy that heeds no word would be counted as one that does what is spoken.
        """
        spoken, shown = set(self.goal.parts), set(own.parts)
        return not (spoken <= shown or shown <= spoken)


@functools.cache
def alternatives(task: SuiteTask) -> dict[str, Alternative]:
    """The other tasks that can be asked for in a task's scene, by name; the task itself is not among them.

    Raises:
        FlexorError: LIBERO cannot run here.
    """
    others = [other for suite in ASKED_OF[task.suite] for other in find_suite(suite).tasks if other.name != task.name]
    found = {}
    for other in others:
        goal = _goal_there(task, other)
        if goal is not None and goal != read_goal(task):
            found[other.name] = Alternative(other.name, other.sentence, goal)
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """What an episode asks for.

    Attributes:
        layout: the task whose scene it is.
        other: what is asked for in its place; None when it is the task itself.
    """

    layout: SuiteTask
    other: Alternative | None

    @property
    def name(self) -> str:
        """As `find_asked` takes it."""
        return self.layout.name if self.other is None else f"{self.other.name}{AT}{self.layout.name}"


def find_asked(suite: Suite, name: str) -> Asked:
    """A task by name or number, or another one in its scene: "OTHER@TASK".

    Raises:
        SuiteError: no such task, or the other cannot be asked for there.
    """
    other, at, layout = name.rpartition(AT)
    task = suite.find(layout)
    if not at:
        return Asked(task, None)
    known = alternatives(task)
    if other not in known:
        raise SuiteError(
            f"{other!r} cannot be asked for in the scene of {task.name}; expected one of: {', '.join(known)}"
        )
    return Asked(task, known[other])


def other_names(task: SuiteTask) -> tuple[str, ...]:
    """All that can be asked for in a task's scene in its place, as `find_asked` takes it."""
    return tuple(Asked(task, other).name for other in alternatives(task).values())


def telling_names(task: SuiteTask) -> tuple[str, ...]:
    """Those of `other_names` that tell whether a policy reads: `flexor eval --counterfactual` measures by them."""
    own = read_goal(task)
    return tuple(Asked(task, other).name for other in alternatives(task).values() if other.tells_reading_from(own))


def _goal_there(task: SuiteTask, other: SuiteTask) -> Goal | None:
    if task.suite == "libero_spatial":
        places, meant = _places(task), _places(other)["akita_black_bowl_1"]
        if places.get(SECOND_BOWL) != meant:
            return None
        return Goal((Part("on", SECOND_BOWL, "plate_1"),))
    if task.suite in ("libero_10", "libero_90") and _scene(task) != _scene(other):
        return None
    goal = read_goal(other)
    return goal if all(name in _names(task) for name in goal.names) else None


def _scene(task: SuiteTask) -> str:
    """KITCHEN_SCENE10_close_the_drawer -> KITCHEN_SCENE10."""
    found = re.match(r"[A-Z_]+SCENE\d+", task.name)
    return found[0] if found else task.suite


@functools.cache
def _problem(task: SuiteTask) -> dict[str, object]:
    prepare()
    from libero.libero.envs.bddl_utils import robosuite_parse_problem

    return robosuite_parse_problem(str(task.bddl_file))


def _places(task: SuiteTask) -> dict[str, str]:
    """Where each thing stands at the beginning."""
    states: list[list[str]] = _problem(task)["initial_state"]  # type: ignore[assignment]
    return {state[1]: state[2] for state in states if state[0] in ("on", "in")}


def _names(task: SuiteTask) -> set[str]:
    """Every object, fixture and region of a scene."""
    problem = _problem(task)
    things: list[dict[str, list[str]]] = [problem["objects"], problem["fixtures"]]  # type: ignore[list-item]
    return {name for kinds in things for names in kinds.values() for name in names} | set(problem["regions"])  # type: ignore[call-overload]
