"""Shadow: a candidate's answers beside those that were played, on the same requests and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_LIMIT, LIMIT_RATIO = 3.0, 1.5
"""Normalised actions lie within 1 mostly: a candidate may ask for 3, or for 1.5 times the largest that was played."""


class Shadow:
    """One candidate, compared on a number of requests.

    Attributes:
        seen: requests so far.
        difference: mean over them of the difference of actions, normalised.
    """

    def __init__(self, requests: int, max_difference: float) -> None:
        """
        Args:
            requests: so many are compared.
            max_difference: that the mean may be.
        """
        self._requests, self._max = requests, max_difference
        self.seen, self._sum = 0, 0.0

    @property
    def difference(self) -> float:
        """See the class."""
        return self._sum / max(self.seen, 1)

    @property
    def passed(self) -> bool:
        """Whether enough was compared, and it was near enough."""
        return self.seen >= self._requests

    def to_dict(self) -> dict[str, float]:
        """How it stands; plain values."""
        return {"seen": self.seen, "requests": self._requests, "difference": self.difference, "limit": self._max}

    def observe(self, played: NDArray[np.float32], shadow: NDArray[np.float32]) -> str | None:
        """Compare one request; why the candidate is to be rejected, in words, or None.

        Args:
            played, shadow: normalised actions [H, A].
        """
        if not np.isfinite(shadow).all():
            return "its actions are not finite"
        largest, limit = float(np.abs(shadow).max()), max(LEAST_LIMIT, LIMIT_RATIO * float(np.abs(played).max()))
        if largest > limit:
            return f"it asks for an action of {largest:.2f}, normalised; at most {limit:.2f} is taken"
        self.seen += 1
        self._sum += float(np.abs(shadow - played).mean())
        if self.passed and self.difference > self._max:
            return f"its actions differ by {self.difference:.3f} on average, normalised; at most {self._max:g} is taken"
        return None
