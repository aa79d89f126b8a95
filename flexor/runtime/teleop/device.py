"""Device: what a person holds in their hands, as the operator reads it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError

PRESSES = ("takeover", "gripper", "success", "failure", "abort", "ready")
"""What can be pressed."""

AXES = ("x", "y", "z", "roll", "pitch", "yaw")
"""Along and about the axes of the robot's base: x forward, y to the left, z up; rotations by the right-hand rule."""


class OperatorError(FlexorError):
    """Nobody can operate here, or their device is gone."""


class Device(Protocol):
    """A keyboard, a gamepad, or anything else. One thread uses it; no call waits."""

    @property
    def help(self) -> str:
        """One line: what to press for what."""
        ...

    def presses(self) -> list[str]:
        """Those of PRESSES that were pressed since the last call, in order.

        Raises:
            OperatorError: the device is gone.
        """
        ...

    def motion(self) -> NDArray[np.float32]:
        """What is asked for now on each of AXES: float32 [6] in [-1, 1]; presses() reads, this tells."""
        ...
