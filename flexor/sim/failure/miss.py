"""reach_miss: the gripper closed without the item, or never came near it; one that needs no grasp was never touched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.robot import FailureEvent
from flexor.sim.failure.moment import Moment
from flexor.sim.failure.scene import Way

REACH = 0.10  # m from the grip to the item's middle: within it, a closing gripper means the item
MISS_STEPS = 2  # control steps without a hold, beyond those that fully open fingers take to close
TRIED = 0.10  # m from where the grip began: an arm that stayed nearer to that has not tried


class MissWatch:
    """Follows the gripper's attempts at the item. An attempt begins when the gripper is commanded closed."""

    def __init__(self, way: Way, closing_steps: int) -> None:
        """`way`: only a carry needs a grasp, all others a touch; `closing_steps`: that fully open fingers take."""
        self._by_touch = way != "carry"
        self._miss_steps = closing_steps + MISS_STEPS
        self._attempt: Moment | None = None  # where it began; None between attempts, and once it is judged
        self._closing = False
        self._empty = 0  # control steps of the attempt without a hold, in a row
        self._got = False
        self._start: NDArray[np.float64] | None = None
        self._travelled, self._closest, self._missed = 0.0, np.inf, False

    def look(self, moment: Moment, carrying: bool) -> FailureEvent | None:
        """Take the next moment, and whether the item is being carried; the event when an attempt has failed."""
        self._start = moment.grip if self._start is None else self._start
        self._travelled = max(self._travelled, float(np.linalg.norm(moment.grip - self._start)))
        self._closest = min(self._closest, moment.reach)
        self._got = self._got or (moment.aim.item in moment.touched if self._by_touch else moment.held)
        return None if self._by_touch else self._grasping(moment, carrying)

    def conclude(self, step: int) -> FailureEvent | None:
        """At the end of a failure: the event when the item was never got and no single attempt told so."""
        beside = self._by_touch or self._closest > REACH
        if self._got or self._missed or self._travelled < TRIED or not beside:
            return None
        return FailureEvent("reach_miss", step, {"how": "never reached", "closest_m": round(self._closest, 4)})

    def _grasping(self, moment: Moment, carrying: bool) -> FailureEvent | None:
        if moment.closing and not self._closing:
            self._attempt, self._empty = moment, 0
        self._closing = moment.closing
        if carrying or not moment.closing:  # it worked, or was given up
            self._attempt = None
        if self._attempt is None:
            return None
        self._empty = 0 if moment.held else self._empty + 1
        if self._empty < self._miss_steps:
            return None
        began, self._attempt = self._attempt, None
        instead = moment.gripped
        if began.reach > REACH and instead is None:
            return None
        self._missed = True
        data = {"how": "closed without it", "distance_m": round(began.reach, 4), "held_instead": instead}
        return FailureEvent("reach_miss", began.step, data)
