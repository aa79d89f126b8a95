"""Adviser: somebody who says at every step what they would do there, and leaves the arm to the policy.

After DAgger (Ross et al., 2011): the policy drives, and its own mistakes are labelled with the way out of them. Only a
program can say so at 20 Hz; a person takes the arm (flexor.runtime.driving.intervention).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Expert = Callable[[], NDArray[np.float32]]
"""The next action, float32 [A], for the robot as it stands now."""


class Adviser:
    """An expert that is asked at every step of an episode.

    Args:
        make_expert: gives a new one for the present episode.
        name: whose advice it is, for the record.
    """

    def __init__(self, make_expert: Callable[[], Expert], name: str = "oracle") -> None:
        self._make_expert, self.name = make_expert, name
        self._expert: Expert | None = None

    def begin(self) -> None:
        """The robot was reset, or somebody else had the arm meanwhile."""
        self._expert = self._make_expert()

    def advise(self) -> NDArray[np.float32]:
        """What it would do now, float32 [A] in robot units.

        Raises:
            RuntimeError: no episode was begun.
        """
        if self._expert is None:
            raise RuntimeError("advise() speaks of an episode; call begin() first")
        return np.asarray(self._expert(), np.float32)
