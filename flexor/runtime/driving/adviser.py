"""Adviser: somebody who says at every step what they would do there, and leaves the arm to the policy.

After DAgger (Ross et al., 2011): the policy drives, and its own mistakes are labelled with the way out of them. Only a
program can say so at 20 Hz; a person takes the arm (flexor.runtime.driving.intervention).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Expert = Callable[[], NDArray[np.float32]]
"""The next action, float32 [A], for the robot as it stands now."""


@runtime_checkable
class Planner(Protocol):
    """An Expert that can think ahead."""

    def __call__(self) -> NDArray[np.float32]: ...

    def plan(self, count: int) -> NDArray[np.float32]:
        """The next `count` actions if it had the arm, float32 [count, A]."""
        ...


class Adviser:
    """An expert that is asked at every step of an episode.

    Args:
        make_expert: gives a new one for the present episode.
        name: whose advice it is, for the record.
    """

    def __init__(self, make_expert: Callable[[], Expert], name: str = "oracle") -> None:
        self._make_expert, self.name = make_expert, name
        self._expert: Expert
        self._next = 0

    def advise(self, step: int, ahead: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What it would do in a control step, float32 [A] in robot units, and in `ahead` steps from there on.

        It begins anew with an episode (step 0), and where it was not asked in the step before: somebody had the arm.

        Returns:
            The action; and float32 [ahead, A], that action first, if nothing but it moved the arm; None without
            `ahead`, and of an expert that cannot think ahead.
        """
        if step == 0 or step != self._next:
            self._expert = self._make_expert()
        self._next = step + 1
        plan = self._expert.plan(ahead) if ahead and isinstance(self._expert, Planner) else None
        return np.asarray(self._expert(), np.float32), plan
