"""What becomes of an action between the one who sends it and the arm: late, too short, pushed aside, noisy."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.sim.shift_draw import Vector, axis_generator


class BentWay(Protocol):
    """What a draw of any simulator says of it: see the dials of action_delay and action_noise."""

    @property
    def delay(self) -> float: ...
    @property
    def gain(self) -> float: ...
    @property
    def drift(self) -> Vector: ...
    @property
    def jitter(self) -> float: ...


class Actuation:
    """The way to the arm in one episode. Commands come out in the order they went in; None is a hold.

    Attributes:
        delay: control steps by which a command reaches the arm late.
    """

    def __init__(self, drawn: BentWay, seed: int) -> None:
        self.delay = round(drawn.delay)
        self._gain = 1.0 + drawn.gain
        self._drift = np.asarray(drawn.drift)
        self._jitter = drawn.jitter
        self._clean = drawn.gain == 0.0 and drawn.jitter == 0.0 and not any(drawn.drift)
        self._rng = axis_generator("actuation", seed)
        self._under_way: deque[NDArray[np.floating] | None] = deque()

    def undone(self, wanted: NDArray[np.float64]) -> NDArray[np.float64]:
        """The motion [6] to command so that `wanted` arrives, apart from jitter; beyond [-1, 1] where none does."""
        if self._clean:
            return wanted
        return (wanted - np.append(self._drift, np.zeros(3))) / self._gain

    def send(self, command: NDArray[np.floating] | None) -> NDArray[np.floating] | None:
        """Take one command, an action [7] in [-1, 1] or a hold; what the arm gets in this control step.

        Until the first one has come through, the arm holds. A hold arrives late like everything else, and exactly.
        """
        self._under_way.append(command)
        if len(self._under_way) <= self.delay:
            return None
        arrived = self._under_way.popleft()
        if arrived is None or self._clean:
            return arrived
        bent = np.array(arrived, dtype=np.float64)
        bent[:3] = self._gain * bent[:3] + self._drift + self._jitter * self._rng.standard_normal(3)
        bent[3:6] = self._gain * bent[3:6] + self._jitter * self._rng.standard_normal(3)
        return np.clip(bent, -1.0, 1.0)
