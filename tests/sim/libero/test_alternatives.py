"""What else can be asked for in a scene, and that it is judged there."""

from __future__ import annotations

import pytest
from libero_here import needs_libero

from flexor.sim.demonstrator import alternatives_of
from flexor.sim.libero.alternatives import SECOND_BOWL, alternatives, find_asked, telling_names
from flexor.sim.libero.goal import Goal, Part
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.robot import LiberoRobot
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.suites import SuiteError, find_suite, official_starts

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


@pytest.mark.parametrize(
    ("suite", "measured", "shown"), [("libero_spatial", 10, 10), ("libero_object", 50, 50), ("libero_goal", 90, 90),
                                     ("libero_10", 27, 42)],
)  # fmt: skip
def test_pairs_are_measured_where_no_goal_is_a_part_of_the_other_and_all_are_shown(
    suite: str, measured: int, shown: int
):
    robot = LiberoRobot(suite)
    found = robot.spec.alternatives
    robot.close()
    every = alternatives_of(f"sim:{suite}")
    assert sum(map(len, found.values())) == measured
    assert sum(map(len, every.values())) == shown
    assert all(found[name] and set(found[name]) <= set(others) for name, others in every.items())


def test_who_puts_both_mugs_away_does_not_count_as_having_heard_of_one():
    task = next(task for task in find_suite("libero_10").tasks if "white_mug_on_the_left_plate_and" in task.name)
    part = "LIVING_ROOM_SCENE5_put_the_white_mug_on_the_left_plate"
    assert f"{part}@{task.name}" not in telling_names(task) and part in alternatives(task)
    assert f"LIVING_ROOM_SCENE5_put_the_red_mug_on_the_left_plate@{task.name}" in telling_names(task)
    one = next(task for task in find_suite("libero_90").tasks if task.name == part)
    assert not any(name.startswith(task.name) for name in telling_names(one)) and task.name in alternatives(one)


def test_in_libero_spatial_the_sentence_means_the_other_bowl():
    suite = find_suite("libero_spatial")
    layout, spoken = suite.tasks[0], suite.tasks[1]
    assert "next to the ramekin" in spoken.sentence
    asked = find_asked(suite, f"{spoken.name}@{layout.name}")
    assert asked.layout == layout and asked.other is not None
    assert asked.other.goal == Goal((Part("on", SECOND_BOWL, "plate_1"),))
    assert asked.other.sentence == spoken.sentence


def test_what_cannot_be_asked_for_is_refused_with_what_can():
    suite = find_suite("libero_spatial")
    with pytest.raises(SuiteError, match="next_to_the_ramekin"):
        find_asked(suite, f"{suite.tasks[9].name}@0")


@pytest.mark.slow
def test_the_expert_does_what_is_asked_for_and_not_what_the_layout_is_known_for():
    suite = find_suite("libero_spatial")
    layout, spoken = suite.tasks[0], suite.tasks[1]
    stage, other = Stage(layout), alternatives(layout)[spoken.name]
    stage.ask(other.goal, other.sentence)
    stage.reset(official_starts(layout)[0], stage.official_fixtures(0))
    stage.wait()
    expert = Expert(stage)
    assert not stage.is_done()
    for _ in range(220):
        stage.act(expert.act())
        if stage.is_done():
            break
    assert stage.is_done() and not stage.is_own_done()
    stage.ask()
    assert not stage.is_done() and stage.sentence == layout.sentence
