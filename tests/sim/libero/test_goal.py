"""A goal is read from its task's file, and says what it does not understand."""

from __future__ import annotations

import pytest
from libero_here import needs_libero

from flexor.sim.libero.goal import Goal, GoalError, Part, parse_goal, read_goal
from flexor.sim.libero.suites import find_suite


def test_a_goal_is_the_conjunction_of_its_parts():
    goal = parse_goal([["on", "bowl_1", "plate_1"], ["close", "cabinet_1_top_region"]])
    assert goal == Goal((Part("on", "bowl_1", "plate_1"), Part("close", "cabinet_1_top_region")))
    assert goal.names == ("bowl_1", "plate_1", "cabinet_1_top_region")


@pytest.mark.parametrize("state", [["under", "bowl_1", "plate_1"], ["on", "bowl_1"], ["open", "a", "b"]])
def test_what_no_predicate_is_called_is_refused_by_name(state: list[str]):
    with pytest.raises(GoalError, match=state[0]):
        parse_goal([state])


@needs_libero
@pytest.mark.parametrize("suite", ["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"])
def test_every_task_of_every_suite_has_a_goal_that_is_understood(suite: str):
    goals = [read_goal(task) for task in find_suite(suite).tasks]
    assert all(goal.parts for goal in goals)
