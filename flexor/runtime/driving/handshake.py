"""Before the first action: does what the server serves fit the robot?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.robot import RobotSpec


class Mismatch(FlexorError):
    """The policy and the robot do not fit; nothing was moved."""


def check_fit(hello: Mapping[str, Any], spec: RobotSpec) -> None:
    """Compare a server's hello with a robot.

    A robot may have more cameras than the policy looks at; everything else must be equal.

    Args:
        hello: cameras (names), state_dim, action_dim, hz, horizon, replan and bundle of the served policy; render, how
            the frames were drawn that it was trained on, where that is known.

    Raises:
        Mismatch: naming every difference.
    """
    problems = []
    missing = [camera for camera in hello["cameras"] if camera not in spec.cameras]
    if missing:
        problems.append(f"it looks through the cameras {missing}, the robot has {sorted(spec.cameras)}")
    for key, mine in (("state_dim", spec.state_dim), ("action_dim", spec.action_dim)):
        if hello[key] != mine:
            problems.append(f"its {key} is {hello[key]}, the robot's {mine}")
    if not math.isclose(hello["hz"], spec.hz, rel_tol=1e-6):
        problems.append(f"it was trained at {hello['hz']:g} Hz, the robot runs at {spec.hz:g} Hz")
    trained, shown = hello.get("render"), spec.conditions.get("render")
    if trained and shown and trained != shown:
        problems.append(f"it was trained on {trained} frames, the robot shows {shown} ones (--render {trained})")
    if problems:
        raise Mismatch(
            f"policy {hello['bundle']} does not fit robot {spec.name}: {'; '.join(problems)}. "
            "Serve a bundle made for this robot, or run the robot it was made for"
        )
