"""A stage is the benchmark's own simulator, and says what is where in it."""

from __future__ import annotations

import numpy as np
import pytest
from libero_here import needs_libero

from flexor.sim.libero.fixtures import FixtureDraws
from flexor.sim.libero.goal import GoalError, Part
from flexor.sim.libero.stage import Stage, StageError
from flexor.sim.libero.suites import SuiteTask, find_suite, official_starts

pytestmark = [needs_libero, pytest.mark.timeout(600)]

WAIT = [0.0] * 6 + [-1.0]


@pytest.fixture(scope="module")
def task() -> SuiteTask:
    return find_suite("libero_goal").tasks[3]


@pytest.fixture(scope="module")
def stage(task: SuiteTask) -> Stage:
    return Stage(task)


def test_trials_in_any_order_are_those_of_the_plain_loop_in_every_bit(task: SuiteTask, stage: Stage):
    from libero.libero.envs.env_wrapper import ControlEnv

    starts, actions = official_starts(task), np.random.default_rng(0).uniform(-1.0, 1.0, (10, 7))
    plain = ControlEnv(str(task.bddl_file), use_camera_obs=False, has_offscreen_renderer=False)
    plain.seed(7)
    after = []
    for trial in (0, 1):
        plain.reset()
        plain.set_init_state(starts[trial])
        for _ in range(10):
            plain.step(WAIT)
        waited = plain.get_sim_state()
        for action in actions:
            plain.step(action)
        after.append((waited, plain.get_sim_state()))
    plain.close()
    for trial in (1, 0):
        stage.reset(starts[trial], stage.official_fixtures(trial))
        stage.wait()
        np.testing.assert_array_equal(stage.start(), after[trial][0])
        for action in actions:
            stage.act(action)
        np.testing.assert_array_equal(stage.start(), after[trial][1])


def test_fixtures_differ_by_trial_and_the_global_generator_is_left_alone(stage: Stage):
    np.random.seed(3)
    expected = np.random.get_state(legacy=False)
    first, second = stage.official_fixtures(0), stage.official_fixtures(1)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], expected["state"]["key"])
    assert np.abs(first.poses - second.poses).max() > 1e-4
    np.testing.assert_array_equal(stage.official_fixtures(0).poses, first.poses)


def test_trials_that_come_in_turn_draw_what_they_draw_together(stage: Stage):
    together, in_turn = FixtureDraws(stage.env), FixtureDraws(stage.env)
    together.official(3)
    for trial in range(4):
        np.testing.assert_array_equal(in_turn.official(trial).poses, together.official(trial).poses)
        np.testing.assert_array_equal(in_turn.official(trial).warmstart, together.official(trial).warmstart)


def test_a_state_of_another_scene_is_refused(stage: Stage):
    with pytest.raises(StageError, match="shape"):
        stage.reset(np.zeros(10))


def test_an_unknown_name_is_answered_with_the_known_ones(stage: Stage):
    with pytest.raises(StageError, match="akita_black_bowl_1"):
        stage.position("teapot_1")
    with pytest.raises(GoalError, match="akita_black_bowl_1"):
        stage.holds(Part("on", "teapot_1", "plate_1"))


def test_at_the_beginning_the_hand_looks_down_open_and_the_drawers_are_shut(task: SuiteTask, stage: Stage):
    stage.reset(official_starts(task)[0], stage.official_fixtures(0))
    stage.wait()
    assert stage.grip_rotation()[2, 2] < -0.99
    assert np.ptp(stage.finger_positions()) > 0.07
    assert stage.opening("wooden_cabinet_1").shape == (3,)
    np.testing.assert_allclose(stage.opening("wooden_cabinet_1_top_region"), 0.0, atol=1e-3)
    assert stage.fingers_touching("akita_black_bowl_1") == 0
    assert not stage.is_done()


def test_a_drawer_pulled_by_hand_is_open_and_its_region_comes_with_it(task: SuiteTask, stage: Stage):
    stage.reset(official_starts(task)[0], stage.official_fixtures(0))
    before = stage.position("wooden_cabinet_1_top_region")
    state = stage.start()
    (joint,) = stage.joint_names("wooden_cabinet_1_top_region")
    state[1 + stage.model.joint(joint).qposadr[0]] = -0.15
    stage.reset(state)
    assert stage.holds(Part("open", "wooden_cabinet_1_top_region"))
    assert np.linalg.norm(stage.position("wooden_cabinet_1_top_region") - before) == pytest.approx(0.15, abs=1e-3)
