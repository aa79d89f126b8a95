"""What else can be asked for in a scene, and that it is judged there."""

from __future__ import annotations

import pytest
from libero_here import needs_libero

from flexor.sim.libero.alternatives import SECOND_BOWL, alternatives, goal_in_scene
from flexor.sim.libero.goal import Goal, GoalError, Part
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.suites import find_suite, official_starts

pytestmark = [needs_libero, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("suite", "least"), [("libero_spatial", 1), ("libero_object", 5), ("libero_goal", 9)])
def test_every_layout_has_something_else_to_ask_for(suite: str, least: int):
    tasks = find_suite(suite).tasks
    for task in tasks:
        found = alternatives(task)
        assert len(found) >= least
        assert task.name not in found
        assert {other.sentence for other in found.values()} <= {other.sentence for other in tasks}


def test_in_libero_10_only_tasks_of_the_same_scene_can_be_asked_for():
    for task in find_suite("libero_10").tasks:
        scene = task.name.split("SCENE")[0]
        assert all(name.startswith(scene) for name in alternatives(task))


def test_in_libero_spatial_the_sentence_means_the_other_bowl():
    suite = find_suite("libero_spatial")
    layout, spoken = suite.tasks[0], suite.tasks[1]
    assert "next to the ramekin" in spoken.sentence
    assert goal_in_scene(layout, spoken) == Goal((Part("on", SECOND_BOWL, "plate_1"),))


def test_what_cannot_be_asked_for_is_refused_with_what_can():
    suite = find_suite("libero_spatial")
    with pytest.raises(GoalError, match="next_to_the_ramekin"):
        goal_in_scene(suite.tasks[0], suite.tasks[9])


@pytest.mark.slow
def test_the_expert_does_what_is_asked_for_and_not_what_the_layout_is_known_for():
    suite = find_suite("libero_spatial")
    layout, spoken = suite.tasks[0], suite.tasks[1]
    stage = Stage(layout)
    stage.reset(official_starts(layout)[0], stage.official_fixtures(0))
    stage.wait()
    expert = Expert(stage, goal_in_scene(layout, spoken))
    assert not stage.solved(spoken)
    for _ in range(220):
        stage.act(expert.act())
        if stage.solved(spoken):
            break
    assert stage.solved(spoken)
    assert not stage.is_done()
