"""How far a row of advice is a plan, by hand."""

from __future__ import annotations

import numpy as np

from flexor.learner.lora.advice_reach import advice_reach


def chunk(*moves: float, closed: tuple[int, ...] = ()) -> np.ndarray:
    """A chunk that moves along x only, whose gripper closes at some steps: float32 [1, H, 7]."""
    made = np.zeros((1, len(moves), 7), np.float32)
    made[0, :, 0], made[0, :, 6] = moves, -1.0
    made[0, list(closed), 6] = 1.0
    return made


def test_what_was_done_as_advised_is_a_plan_to_its_end():
    same = chunk(1, 1, 0.5, 0, closed=(2, 3))
    assert advice_reach(same, same, 0.05).tolist() == [4]


def test_an_arm_that_stands_still_is_told_the_first_action_alone():
    # 0.05 m apart after the first step: what is said there is said of another place
    assert advice_reach(chunk(1, 1, 1, 1), chunk(0, 0, 0, 0), 0.05).tolist() == [1]


def test_small_differences_add_up_and_may_cancel():
    # 0.15 apart a step: 7.5 mm, then 15 mm: the second action is still said where the first should have led
    assert advice_reach(chunk(1, 1, 1, 1), chunk(0.85, 0.85, 0.85, 0.85), 0.05).tolist() == [2]
    assert advice_reach(chunk(1, 1, 1, 1), chunk(0.85, 1.15, 0.85, 1.15), 0.05).tolist() == [4]


def test_a_gripper_that_did_something_else_ends_the_plan():
    assert advice_reach(chunk(0, 0, 0, 0, closed=(1, 2)), chunk(0, 0, 0, 0), 0.05).tolist() == [2]


def test_each_chunk_has_its_own():
    labels = np.concatenate([chunk(1, 1, 1), chunk(0, 0, 0)])
    assert advice_reach(labels, np.concatenate([chunk(0, 0, 0)] * 2), 0.05).tolist() == [1, 3]
