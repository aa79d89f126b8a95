"""What a shift does to commands on their way to the arm: late, scaled, pushed aside, noisy."""

from __future__ import annotations

import numpy as np

from flexor.sim.actuation import Actuation
from flexor.sim.shift_draw import ShiftDraw


def test_a_late_command_comes_out_whole_and_in_its_turn_and_so_does_a_hold() -> None:
    way = Actuation(ShiftDraw(delay=2.0), 0)
    first, second = np.full(7, 0.1), np.full(7, 0.2)
    assert way.send(first) is None
    assert way.send(None) is None
    assert way.send(second) is first
    assert way.send(first) is None  # the hold
    assert way.send(first) is second


def test_a_bent_command_is_scaled_and_pushed_aside_and_its_gripper_left_alone() -> None:
    way = Actuation(ShiftDraw(gain=-0.1, drift=(0.1, 0.0, -0.5)), 0)
    bent = way.send(np.array([0.5, -0.4, -1.0, 0.2, 0.0, 0.0, 1.0]))
    assert bent is not None
    np.testing.assert_allclose(bent, [0.55, -0.36, -1.0, 0.18, 0.0, 0.0, 1.0])


def test_the_oracle_s_undoing_makes_arrive_what_it_wants() -> None:
    wanted = np.array([0.3, -0.2, 0.1, 0.05, 0.0, -0.1])
    way = Actuation(ShiftDraw(gain=-0.25, drift=(0.1, 0.0, -0.05)), 0)
    arrived = way.send(np.append(way.undone(wanted), 1.0))
    assert arrived is not None
    np.testing.assert_allclose(arrived, [*wanted, 1.0])
    assert Actuation(ShiftDraw(delay=1.0), 0).undone(wanted) is wanted


def test_jitter_has_its_standard_deviation_and_follows_from_the_seed() -> None:
    runs = []
    for seed in (4, 4, 5):
        way = Actuation(ShiftDraw(jitter=0.1), seed)
        runs.append(np.array([way.send(np.zeros(7)) for _ in range(2000)]))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert np.all(np.abs(runs[0][:, :6].std(axis=0) - 0.1) < 0.01)
    assert not runs[0][:, 6].any()
