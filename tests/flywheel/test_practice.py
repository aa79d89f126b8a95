"""Which task is practised: by how often the policy is expected to fail at it, and in turn otherwise."""

from __future__ import annotations

from collections import Counter

import pytest
from online_episodes import episode_row

from flexor.flywheel.online.practice import practised_task

TASKS = ("red", "green", "blue")


def test_a_task_is_practised_in_proportion_to_laplaces_rate_of_failure() -> None:
    rows = [episode_row(number, task="red") for number in range(4)]  # 1 / 6
    rows += [episode_row(0, task="green"), episode_row(1, task="green", outcome="failure")]  # 2 / 4
    rows += [episode_row(2, task="green", interventions=3)]  # helped, so not alone: 3 / 5
    rows += [episode_row(number, task="blue", outcome="abort") for number in range(9)]  # nothing is known: 1 / 2
    rows += [episode_row(number, task="another", outcome="failure") for number in range(9)]
    asked = Counter(practised_task(TASKS, rows, seed, 1.0) for seed in range(6000))
    total = 1 / 6 + 3 / 5 + 1 / 2
    expected = {"red": 1 / 6 / total, "green": 3 / 5 / total, "blue": 1 / 2 / total}
    assert {task: count / 6000 for task, count in asked.items()} == pytest.approx(expected, abs=0.02)


def test_a_seed_practises_or_not_whatever_was_played_before() -> None:
    failed = [episode_row(number, task="red", outcome="failure") for number in range(1000)]
    solved = [episode_row(number, task=task) for number in range(1000) for task in ("green", "blue")]
    asked = [practised_task(TASKS, failed + solved, seed, 0.5) for seed in range(600)]
    assert asked == [practised_task(TASKS, failed + solved, seed, 0.5) for seed in range(600)]
    in_turn = [seed for seed in range(600) if asked[seed] != "red"]
    assert {asked[seed] == TASKS[seed % 3] for seed in in_turn} == {True}
    assert len(in_turn) / 600 == pytest.approx(0.5 * 2 / 3, abs=0.06)
