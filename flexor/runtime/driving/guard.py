"""The last look at an action before the arm moves: finite, in range, not too fast, inside the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from flexor.runtime.robot import RobotSpec


class GuardSettings(BaseModel):
    """Limits beside those of the robot itself.

    Attributes:
        max_speed: fastest speed of the gripper frame that may be asked for (an action's way a control period), m/s.
            The default is the Panda's own limit (Franka's control parameters), beyond which its controller aborts.
        tolerance: how far an action may pass its range (as a fraction of the range's width) or max_speed (as a
            fraction of it) before the bounding is reported; a flow policy overshoots a saturated action by a little
            all the time.
        edge: how near a face of the workspace the gripper frame counts as being at it, m. An action that ends beyond
            a face from further away is bounded without a report: it is how one asks for a way up to there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_speed: float = Field(default=1.7, gt=0)
    tolerance: float = Field(default=0.1, ge=0)
    edge: float = Field(default=0.005, ge=0)


@dataclass(frozen=True, slots=True)
class GuardEvent:
    """What the guard found: kind is one of finite, range, speed, workspace; data says what and by how much."""

    kind: str
    data: Mapping[str, object] = field(default_factory=dict)


class Guard:
    """Checks every action of one robot.

    Knows the position from state[:3] (metres) and the meaning of action[:3] from spec.metres_per_unit.
    """

    def __init__(self, spec: RobotSpec, settings: GuardSettings | None = None) -> None:
        self._spec = spec
        self._settings = settings or GuardSettings()

    def check(
        self, action: NDArray[np.float32], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32] | None, list[GuardEvent]]:
        """Make an action safe.

        Args:
            action: float32 [A], as the policy wants it.
            state: float32 [S], the robot's state now.

        Returns:
            The action to play, float32 [A], or None: hold; and what was found. An action or a position with NaN or
            infinity is never played. Everything else is bounded: clipped to its range, slowed to max_speed with its
            direction kept, and stopped at the faces of the workspace (from outside it, only motion back is left).
            The bounds always hold; reported is what a policy that does its work would not ask for.
        """
        spec, events = self._spec, []
        bad = np.flatnonzero(~np.isfinite(action))
        if bad.size or not np.isfinite(state).all():
            where = {"action_dims": bad.tolist(), "state_dims": np.flatnonzero(~np.isfinite(state)).tolist()}
            return None, [GuardEvent("finite", where)]

        safe = np.clip(action, spec.action_low, spec.action_high).astype(np.float32)
        excess = np.abs(action - safe) / (spec.action_high - spec.action_low)
        if excess.max() > self._settings.tolerance:
            dim = int(excess.argmax())
            events.append(GuardEvent("range", {"dim": dim, "value": float(action[dim])}))

        speed = float(np.linalg.norm(safe[:3])) * spec.metres_per_unit * spec.hz
        if speed > self._settings.max_speed:
            safe[:3] *= self._settings.max_speed / speed
            if speed > self._settings.max_speed * (1.0 + self._settings.tolerance):
                events.append(GuardEvent("speed", {"metres_per_second": speed, "limit": self._settings.max_speed}))

        position = state[:3]
        low, high = spec.workspace
        # Where the arm is already outside, the bound is where it stands: no further out, and never a forced way back.
        target = position + safe[:3] * spec.metres_per_unit
        bounded = np.clip(target, np.minimum(low, position), np.maximum(high, position))
        if not np.array_equal(bounded, target):
            safe[:3] = (bounded - position) / spec.metres_per_unit
            room = np.where(target < low, position - low, high - position)  # to the face that an axis would pass
            if room[bounded != target].min() <= self._settings.edge:
                events.append(GuardEvent("workspace", {"target": target.tolist(), "position": position.tolist()}))
        return safe, events
