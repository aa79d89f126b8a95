"""grasp_slip: the item was carried and lost, or put down where it does not belong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.robot import FailureEvent
from flexor.sim.failure.moment import Moment

HOLD_STEPS = 3  # control steps between both fingers, before lift or drag makes it a carry
LIFT, DRAG = 0.01, 0.02  # m, up or along from where it was taken
LOSS_STEPS = 3  # control steps without a hold; a finger may lose touch for one while the arm turns
REST_MOVE = 0.001  # m a control step: an item that was let go and moves less has come to rest
REST_STEPS = 2


class SlipWatch:
    """Follows the item from hand to table.

    Attributes:
        carried: how many carries have begun; a new one means that what went wrong before was put right.
        carrying: whether one is going on, or has been lost but not been judged yet.
    """

    def __init__(self) -> None:
        self.carried = 0
        self.carrying = False
        self._held = 0
        self._origin: NDArray[np.float64] = np.zeros(3)
        self._lift = 0.0
        self._lost: Moment | None = None  # the first moment without a hold
        self._resting = 0
        self._last: NDArray[np.float64] | None = None

    def look(self, moment: Moment) -> FailureEvent | None:
        """Take the next moment; the event when the item is lost for good."""
        event = None
        if moment.held:
            self._hold(moment)
        elif self.carrying:
            self._lost = self._lost or moment
            event = self._judge(moment, self._lost)
        else:
            self._held = 0
        self._last = moment.item
        return event

    def _hold(self, moment: Moment) -> None:
        if self._held == 0:
            self._origin, self._lift = moment.item, 0.0
        self._held += 1
        self._lost, self._resting = None, 0
        way = moment.item - self._origin
        self._lift = max(self._lift, float(way[2]))
        moved = way[2] > LIFT or np.hypot(*way[:2]) > DRAG
        if not self.carrying and self._held >= HOLD_STEPS and moved:
            self.carrying = True
            self.carried += 1

    def _judge(self, moment: Moment, lost: Moment) -> FailureEvent | None:
        if lost.closing:
            if moment.step - lost.step + 1 < LOSS_STEPS:
                return None
            how = "slipped"
        else:
            assert self._last is not None  # it was held before
            still = np.linalg.norm(moment.item - self._last) < REST_MOVE and moment.aim.item not in moment.touched
            self._resting = self._resting + 1 if still else 0
            if self._resting < REST_STEPS:
                return None
            how = "let go"
        self.carrying, self._held, self._lost, self._resting = False, 0, None, 0
        data = {
            "how": how,
            "lift_m": round(self._lift, 4),
            "goal_distance_m": round(moment.goal_distance, 4),
        }
        return FailureEvent("grasp_slip", lost.step, data)
