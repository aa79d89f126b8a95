"""Starts of ours: drawn with a seed, standing still, and never the official ones."""

from __future__ import annotations

import numpy as np
import pytest
from libero_here import needs_libero

from flexor.sim.libero.stage import Stage
from flexor.sim.libero.starts import draw_start
from flexor.sim.libero.suites import find_suite, official_starts

pytestmark = [needs_libero, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(find_suite("libero_spatial").tasks[3])  # a bowl on a box: what carries and what is carried


def test_the_same_seed_gives_the_same_start_whatever_was_done_before(stage: Stage):
    first = draw_start(stage, 5)
    stage.wait(3)
    np.random.seed(1)
    again, other = draw_start(stage, 5), draw_start(stage, 6)
    np.testing.assert_array_equal(again.state, first.state)
    np.testing.assert_array_equal(again.fixtures.poses, first.fixtures.poses)
    assert np.abs(other.state - first.state).max() > 1e-3


def test_no_start_is_an_official_one(stage: Stage):
    official, places = official_starts(stage.task)[:, 1 : 1 + stage.model.nq], range(20, 23)
    for seed in places:
        mine = draw_start(stage, seed).state[1 : 1 + stage.model.nq]
        assert np.abs(official - mine).max(axis=1).min() > 5e-3


def test_everything_stands_and_the_task_is_still_to_be_done(stage: Stage):
    for seed in (30, 31):
        start = draw_start(stage, seed)
        stage.reset(start.state, start.fixtures)
        before = {name: stage.position(name) for name in stage.env.objects_dict}
        stage.wait()
        for name, position in before.items():
            assert np.linalg.norm(stage.position(name) - position) < 0.005, name
        assert not stage.is_done()
