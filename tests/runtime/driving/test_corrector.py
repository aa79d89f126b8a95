"""When an expert takes the arm and when it gives it back, by hand-made situations."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.runtime.driving.corrector import CorrectionSettings, Corrector
from flexor.runtime.driving.intervention import Situation
from flexor.runtime.robot import FailureEvent


def situation(step: int, at: float = 0.0, suspicion: float | None = None, of: int = -1, *events: FailureEvent):
    state = np.zeros(8, np.float32)
    state[0] = at
    return Situation(step, state, suspicion, of, events)


def moving(step: int, *events: FailureEvent, suspicion: float | None = None, of: int = -1) -> Situation:
    """The arm goes 2 cm a step."""
    return situation(step, 0.02 * step, suspicion, of, *events)


class Counting:
    """Experts whose k-th action is k everywhere, and how many were made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self):
        self.made += 1
        actions = iter(np.full(7, k, np.float32) for k in range(1000))
        return lambda: next(actions)


@pytest.fixture
def experts() -> Counting:
    return Counting()


def corrector(experts: Counting, **settings) -> Corrector:
    return Corrector(experts, CorrectionSettings(**{"stall_steps": 4, "stall_m": 0.01, "turn_steps": 3, **settings}))


def driven(one: Corrector, situations: list[Situation]) -> list[str | None]:
    """Why each step was the expert's; None where it was the policy's."""
    return [None if (took := one.takeover(now)) is None else took.why for now in situations]


def test_an_arm_that_moves_without_trouble_is_left_to_the_policy(experts):
    assert driven(corrector(experts), [moving(step, suspicion=2.0, of=step) for step in range(50)]) == [None] * 50
    assert experts.made == 0


def test_standing_still_ends_in_a_turn_of_the_expert_and_then_it_has_to_be_seen_anew(experts):
    one = corrector(experts)
    # Five positions within 1 cm span four steps; the step after a turn is the policy's, and counts from one.
    assert driven(one, [situation(step) for step in range(12)]) == [
        *[None] * 4,
        *["stall"] * 3,
        *[None] * 5,
    ]
    assert driven(one, [situation(12)]) == ["stall"]
    assert experts.made == 2


def test_a_way_back_and_forth_is_no_stall_and_0_steps_never_are(experts):
    to_and_fro = [situation(step, 0.02 * (step % 2)) for step in range(30)]
    assert driven(corrector(experts), to_and_fro) == [None] * 30
    assert driven(corrector(experts, stall_steps=0), [situation(step) for step in range(30)]) == [None] * 30


def test_an_alarm_counts_once_for_what_the_policy_saw_before_the_turn(experts):
    one = corrector(experts)
    assert driven(one, [moving(0, suspicion=2.0, of=0), moving(1, suspicion=2.1, of=0)]) == [None, "alarm"]
    still_known = [moving(step, suspicion=2.1, of=0) for step in range(2, 10)]
    assert driven(one, still_known) == ["alarm", "alarm", *[None] * 6]
    assert driven(one, [moving(10, suspicion=2.1, of=4)]) == ["alarm"]
    assert driven(corrector(experts, alarm=False), [moving(0, suspicion=9.0, of=0)]) == [None]


def test_what_went_wrong_is_answered_once_and_what_was_put_right_is_not(experts):
    one = corrector(experts)
    slip, righted = FailureEvent("grasp_slip", 1, {}), FailureEvent("collision", 0, {}, recovered_at=1)
    assert driven(one, [moving(1, righted), moving(2, righted, slip)]) == [None, "failure.grasp_slip"]
    assert driven(one, [moving(step, righted, slip) for step in range(3, 8)]) == [
        *["failure.grasp_slip"] * 2,
        *[None] * 3,
    ]
    again = FailureEvent("grasp_slip", 7, {})
    assert driven(one, [moving(8, righted, slip, again)]) == ["failure.grasp_slip"]
    assert driven(corrector(experts, failure=False), [moving(2, slip)]) == [None]


def test_what_goes_wrong_in_the_experts_own_turn_is_no_reason_for_another(experts):
    one = corrector(experts)
    slip, own = FailureEvent("grasp_slip", 1, {}), FailureEvent("collision", 3, {})
    assert driven(one, [moving(2, slip), moving(3, slip), moving(4, slip, own)]) == ["failure.grasp_slip"] * 3
    assert driven(one, [moving(5, slip, own), moving(6, slip, own)]) == [None, None]


def test_each_turn_has_an_expert_of_its_own_and_each_episode_begins_anew(experts):
    one = corrector(experts)
    slip = FailureEvent("grasp_slip", 1, {})
    took = [one.takeover(moving(step, slip)) for step in range(2, 5)]
    assert [float(takeover.action[0]) for takeover in took if takeover is not None] == [0.0, 1.0, 2.0]
    one.begin()
    assert driven(one, [moving(2, slip)]) == ["failure.grasp_slip"]
    assert experts.made == 2
