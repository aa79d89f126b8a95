"""Physics steps computed once are the benchmark's physics; its own episodes are played bit by bit all the same."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from libero_here import needs_libero
from numpy.typing import NDArray

from flexor.sim.libero.protocol import LiberoSettings, Starts
from flexor.sim.libero.robot import LiberoRobot
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.suites import find_suite, official_starts

pytestmark = [needs_libero, pytest.mark.timeout(600)]

STEPS = 12


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage(find_suite("libero_spatial").tasks[0])


def play(stage: Stage, swift: bool) -> NDArray[np.float64]:
    """Positions and velocities after a few large actions."""
    stage.swift = swift
    stage.reset(official_starts(stage.task)[0], stage.official_fixtures(0))
    for action in np.random.default_rng(1).uniform(-1.0, 1.0, (STEPS, 7)):
        stage.act(action)
    return stage.start()


def test_the_way_is_the_same_and_the_clock_too(stage: Stage) -> None:
    plain, swift = play(stage, False), play(stage, True)
    assert swift[0] == plain[0]
    moved = np.abs(plain - official_starts(stage.task)[0])[1 : 1 + stage.model.nq].max()
    assert moved > 0.05
    assert np.abs(swift - plain)[1 : 1 + stage.model.nq].max() < 1e-4


def test_it_brings_the_scene_up_to_date_once_a_physics_step(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("mj_forward", "mj_step", "mj_step1", "mj_step2"):
        real = getattr(mujoco, name)
        monkeypatch.setattr(mujoco, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    stage.swift = True
    stage.act(np.zeros(7))
    assert (calls.count("mj_step1"), calls.count("mj_step2"), calls.count("mj_forward")) == (25, 25, 0)
    calls.clear()
    stage.swift = False
    stage.act(np.zeros(7))
    assert (calls.count("mj_step"), calls.count("mj_forward")) == (25, 50)


@pytest.mark.parametrize(("starts", "swift"), [("official", False), ("sampled", True)])
def test_only_episodes_of_our_own_are_computed_so(starts: Starts, swift: bool) -> None:
    robot = LiberoRobot("libero_spatial", LiberoSettings(starts=starts), only="0")
    try:
        robot.reset(0, next(iter(robot.spec.tasks)))
        assert robot.stage.swift is swift
    finally:
        robot.close()
