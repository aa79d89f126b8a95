"""Guard: no action reaches the arm that is not finite, in range, slow enough and inside the workspace."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.runtime.driving.guard import Guard, GuardSettings
from flexor.runtime.robot import RobotSpec

SPEC = RobotSpec(
    name="bench",
    cameras={"agentview": (8, 8)},
    state_dim=8,
    action_dim=7,
    hz=20.0,
    action_low=-np.ones(7, np.float32),
    action_high=np.ones(7, np.float32),
    metres_per_unit=0.05,
    workspace=np.array([[-0.3, -0.3, 0.0], [0.3, 0.3, 0.6]], np.float32),
    tasks={},
    max_steps=100,
)


def state(x: float = 0.0, y: float = 0.0, z: float = 0.3) -> np.ndarray:
    return np.array([x, y, z, 0, 0, 0, 0.04, 0.04], np.float32)


def action(**dims: float) -> np.ndarray:
    vector = np.zeros(7, np.float32)
    for name, value in dims.items():
        vector[int(name[1:])] = value
    return vector


def kinds(events) -> list[str]:
    return [event.kind for event in events]


def test_a_good_action_passes_unchanged_and_without_events():
    wanted = action(_0=0.5, _2=-0.25, _6=1.0)
    safe, events = Guard(SPEC).check(wanted, state())
    assert safe is not None
    assert np.array_equal(safe, wanted)
    assert events == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dim", [0, 3, 6])
def test_an_action_that_is_not_finite_holds_and_names_the_dimension(value, dim):
    safe, events = Guard(SPEC).check(action(**{f"_{dim}": value}), state())
    assert safe is None
    assert kinds(events) == ["finite"]
    assert events[0].data["action_dims"] == [dim]


def test_a_state_that_is_not_finite_holds():
    safe, events = Guard(SPEC).check(action(_0=0.1), state(x=np.nan))
    assert safe is None
    assert events[0].data["state_dims"] == [0]


def test_out_of_range_is_clipped_and_reported_only_beyond_the_tolerance():
    guard = Guard(SPEC)
    safe, events = guard.check(action(_4=1.1, _6=-1.15), state())
    assert safe is not None and (safe[4], safe[6]) == (1.0, -1.0)
    assert events == []
    safe, events = guard.check(action(_4=7.0), state())
    assert safe is not None and safe[4] == 1.0
    assert kinds(events) == ["range"]
    assert events[0].data == {"dim": 4, "value": 7.0}


def test_too_fast_is_slowed_with_its_direction_kept_and_rotation_and_gripper_untouched():
    guard = Guard(SPEC, GuardSettings(max_speed=0.5))
    safe, events = guard.check(action(_0=0.6, _1=0.8, _5=0.3, _6=1.0), state())  # 1.0 * 0.05 m * 20 Hz = 1 m/s
    assert safe is not None
    assert safe == pytest.approx(action(_0=0.3, _1=0.4, _5=0.3, _6=1.0))
    assert kinds(events) == ["speed"]


def test_the_panda_is_never_asked_for_more_than_it_can_and_a_little_more_is_slowed_without_a_word():
    corner = action(_0=1.0, _1=-1.0, _2=1.0)  # sqrt(3) * 0.05 m * 20 Hz = 1.73 m/s
    safe, events = Guard(SPEC).check(corner, state())
    assert safe is not None
    assert np.linalg.norm(safe[:3]) * 0.05 * 20.0 == pytest.approx(1.7)
    assert events == []


def test_motion_stops_at_the_face_of_the_workspace_and_slides_along_it():
    safe, events = Guard(SPEC).check(action(_0=1.0, _1=0.5), state(x=0.28))  # 2 cm left of a 5 cm step
    assert safe is not None
    assert safe[:3] == pytest.approx([0.4, 0.5, 0.0], abs=1e-6)
    assert events == []  # as a policy reaches for what lies on the table, which is a face


@pytest.mark.parametrize(("x", "z", "told"), [(0.29, 0.3, []), (0.296, 0.3, ["workspace"]), (0.29, 0.004, [])])
def test_a_way_beyond_a_face_is_reported_once_the_arm_is_there(x, z, told):
    """5 mm from it. Another face that is near, but not passed, does not count."""
    safe, events = Guard(SPEC).check(action(_0=1.0, _2=0.5), state(x=x, z=z))
    assert safe is not None
    assert x + safe[0] * 0.05 == pytest.approx(0.3)
    assert kinds(events) == told


def test_outside_the_workspace_every_way_further_out_is_reported():
    _, events = Guard(SPEC).check(action(_1=-0.1), state(y=-0.45))
    assert kinds(events) == ["workspace"]


def test_exactly_on_the_edge_nothing_goes_out_and_everything_goes_in():
    guard = Guard(SPEC)
    out, events = guard.check(action(_2=-0.5), state(z=0.0))
    assert out is not None and out[2] == 0.0
    assert kinds(events) == ["workspace"]
    back, events = guard.check(action(_2=0.5), state(z=0.0))
    assert back is not None and back[2] == 0.5
    assert events == []


def test_from_outside_the_workspace_only_the_way_back_is_open_and_never_forced():
    guard = Guard(SPEC)
    further, _ = guard.check(action(_0=0.2), state(x=0.4))
    still, events = guard.check(action(), state(x=0.4))
    back, _ = guard.check(action(_0=-0.2), state(x=0.4))
    assert further is not None and further[0] == 0.0
    assert still is not None and not still.any()
    assert events == []
    assert back is not None and back[0] == pytest.approx(-0.2)


def test_the_guard_never_writes_into_the_chunk():
    wanted = action(_0=5.0)
    Guard(SPEC).check(wanted, state(x=0.29))
    assert wanted[0] == 5.0
