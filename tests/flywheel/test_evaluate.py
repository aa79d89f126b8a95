"""evaluate: lockstep in worker processes, deterministic, independent of how many there are."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from point_world import PointPolicy, PointRobot, broken_policy, crashing_policy, open_noisy_policy, open_point

from flexor.errors import FlexorError
from flexor.flywheel.evaluate import evaluate
from flexor.flywheel.lockstep import Lockstep, noise_seed
from flexor.runtime.driving.handshake import Mismatch
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex

run = functools.partial(
    evaluate, "point", "sim:point", ("left", "right"), make_robot=open_point, make_policy=open_noisy_policy
)


def test_the_same_seed_gives_the_same_result_with_one_worker_and_with_three():
    once = run(10, 5, 1)
    assert run(10, 5, 1) == once
    assert run(10, 5, 3) == once
    assert run(10, 6, 3)["rows"] != once["rows"]


def test_the_result_has_the_common_names_and_a_row_a_task_and_an_episode():
    told: list[dict[str, Any]] = []
    result = run(5, 100, 2, watch=told.append)
    assert sorted(row["episode"] for row in told) == [0, 1, 2, 3, 4]
    assert [(row["seed"], row["task"]) for row in result["rows"]] == [
        (100, "left"), (101, "right"), (102, "left"), (103, "right"), (104, "left"),
    ]  # fmt: skip
    assert result["episodes"] == 5
    assert result["successes"] == sum(row["success"] for row in result["rows"])
    assert result["success_rate"] == result["successes"] / 5
    low, high = result["ci95"]
    assert 0 <= low <= result["success_rate"] <= high <= 1
    assert 1.0 <= result["entropy_bits_mean"] <= 2.0
    assert [(row["task"], row["episodes"]) for row in result["tasks"]] == [("left", 3), ("right", 2)]


def test_recording_changes_nothing_and_leaves_every_episode_on_disk(tmp_path):
    assert run(4, 7, 2, tmp_path) == run(4, 7, 1)
    rows = EpisodeIndex(tmp_path).episodes()
    assert len(rows) == 4
    episodes = [read_episode(path) for path in sorted((tmp_path / "episodes").glob("*.mcap"))]
    assert sorted(episode.meta.seed for episode in episodes) == [7, 8, 9, 10]
    for episode in episodes:
        assert [recorded.step for recorded in episode.chunks] == list(range(0, len(episode.steps), 5))


def test_no_task_named_means_all_and_an_unknown_one_is_refused_with_the_names():
    every = evaluate("point", "sim:point", (), 2, 0, 1, make_robot=open_point, make_policy=open_noisy_policy)
    assert [row["task"] for row in every["tasks"]] == ["left", "right"]
    with pytest.raises(FlexorError, match=r"unknown tasks up;.*left, right"):
        evaluate("point", "sim:point", ("up",), 2, 0, 1, make_robot=open_point, make_policy=open_noisy_policy)


def test_an_error_in_a_worker_is_the_error_of_the_evaluation():
    with pytest.raises(FlexorError, match="bundle point cannot be opened"):
        run(4, 0, 2, make_policy=broken_policy)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        run(4, 0, 2, make_policy=crashing_policy)


def test_a_policy_that_does_not_fit_is_refused_before_anything_moves():
    robot = PointRobot(hz=10.0)
    with pytest.raises(Mismatch, match="20 Hz"):
        Lockstep(robot, PointPolicy(), None, entropy=False)
    assert robot.commands == []


def test_noise_seeds_fit_the_wire_and_differ_by_episode_and_step():
    seeds = {noise_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
