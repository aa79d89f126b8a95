"""Counterfactual episodes: which sentence is spoken in which scene, and that the unspoken task is watched as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flexor.errors import FlexorError
from flexor.flywheel.counterfactual import Witness, counterfactual_jobs, original_summary
from flexor.sim.oracle import Oracle
from flexor.sim.robots import TabletopRobot
from flexor.sim.tabletop import TaskError
from flexor.sim.tasks import TASKS


@pytest.fixture(scope="module")
def robot() -> Iterator[TabletopRobot]:
    made = TabletopRobot()
    yield made
    made.close()


def test_every_original_meets_every_other_task_of_its_scene(robot: TabletopRobot) -> None:
    alternatives = robot.spec.alternatives
    jobs = counterfactual_jobs(list(TASKS), alternatives, 3 * len(TASKS), 5000)
    pairs = {(job["original"], job["task"]) for job in jobs}
    assert pairs == {(a, b) for a in TASKS for b in TASKS if a != b and TASKS[a].scene == TASKS[b].scene}
    assert [job["seed"] for job in jobs] == list(range(5000, 5000 + len(jobs)))


def test_the_trials_of_each_scene_ask_for_its_other_tasks_in_turn() -> None:
    alternatives = {"sweep": ("wipe", "dust"), "juggle": ("throw",)}
    jobs = counterfactual_jobs(["sweep", "juggle"], alternatives, 3, 7, each=True)
    assert [(job["original"], job["task"], job["seed"]) for job in jobs] == [
        ("sweep", "wipe", 7),
        ("sweep", "dust", 8),
        ("sweep", "wipe", 9),
        ("juggle", "throw", 7),
        ("juggle", "throw", 8),
        ("juggle", "throw", 9),
    ]
    assert [job["episode"] for job in jobs] == list(range(6))


def test_a_task_that_is_alone_in_its_scene_is_refused() -> None:
    with pytest.raises(FlexorError, match=r"scene of juggle.*--tasks"):
        counterfactual_jobs(["sweep", "juggle"], {"sweep": ("wipe",)}, 4, 0)


@pytest.mark.parametrize("doing", ["puck_to_black_mat", "puck_to_white_mat"])
def test_the_witness_sees_the_task_that_nobody_asked_for(robot: TabletopRobot, doing: str) -> None:
    """The arm does one of two tasks; the witness watches the black mat, the sentence is the white one's."""
    witness = Witness(robot)
    witness.watch("puck_to_black_mat")
    witness.reset(5001, "puck_to_white_mat")
    oracle = Oracle(TASKS[doing])
    status = witness.hold()
    while not (status.done or witness.original_solved):
        status = witness.act(oracle.act(robot.world))
    assert witness.original_solved == (doing == "puck_to_black_mat")
    assert status.success == (doing == "puck_to_white_mat")
    witness.watch("puck_to_black_mat")
    assert not witness.original_solved


def test_another_scenes_task_cannot_be_judged(robot: TabletopRobot) -> None:
    robot.reset(1, "puck_to_white_mat")
    with pytest.raises(TaskError, match=r"red_block_in_box.*'blocks'.*'mats'"):
        robot.solved("red_block_in_box")


def test_the_summary_counts_the_original() -> None:
    rows = [{"original_success": True}, {"original_success": False}, {"original_success": False}]
    summary = original_summary(rows)
    assert (summary["successes"], summary["episodes"]) == (1, 3)
    assert summary["success_rate"] == pytest.approx(1 / 3)
