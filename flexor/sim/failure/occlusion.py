"""occlusion: no camera sees the item, or the target, for a while."""

from __future__ import annotations

from flexor.runtime.robot import FailureEvent
from flexor.sim.failure.sight import Sight

SEEN_SHARE = 0.2  # of a thing's sample points, by one camera: from here on it counts as seen
BLIND_STEPS = 20  # control steps in a row unseen; behind the hand that pushes it, a puck is unseen for up to 13
BACK_STEPS = 20  # control steps in a row seen again, after which it is over


class OcclusionWatch:
    """Follows whether one thing can be seen."""

    def __init__(self, sight: Sight, thing: str) -> None:
        self._sight, self._thing = sight, thing
        self._blind = self._back = 0

    @property
    def over(self) -> bool:
        """Whether the thing has been in sight for so long that what happened before was not for want of it."""
        return self._back >= BACK_STEPS

    def look(self, step: int) -> FailureEvent | None:
        """Look now, after control step `step`; the event when the thing has been out of sight for too long."""
        view = self._sight.view(self._thing, SEEN_SHARE)
        seen = view.share >= SEEN_SHARE
        self._blind = 0 if seen else self._blind + 1
        self._back = self._back + 1 if seen else 0
        if seen or self._blind != BLIND_STEPS:
            return None
        data = {
            "of": self._thing,
            "hidden_by": view.hidden_by,
            "since_step": step - BLIND_STEPS + 1,
            "share": round(view.share, 3),
        }
        return FailureEvent("occlusion", step, data)
