"""Gamepad: the events of a joystick device of Linux (/dev/input/js0), read without a library."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.teleop.device import AXES, PRESSES, OperatorError
from flexor.runtime.teleop.operator_settings import GamepadSettings

EVENT = struct.Struct("=IhBB")
"""js_event of linux/joystick.h: time (ms), value, type, number."""

BUTTON, AXIS, INIT = 0x01, 0x02, 0x80
"""Types of events; INIT is added to those that tell the state at opening."""

FULL = 32767.0
WAYS = {"x": -1, "y": -1, "z": -1, "roll": 1, "pitch": -1, "yaw": -1}  # sticks count to the right and downwards
READ_EVENTS = 1024  # at most in one control step; the kernel keeps 64
HELP = (
    "gamepad: button {ready}: begin, {takeover}: take over, hand back, {gripper}: gripper, {success}: success, "
    "{failure}: failure, {abort}: abort; left stick moves, right stick lifts and yaws, cross rolls and pitches"
)


class Gamepad:
    """A Device: a context in which a joystick device, or a pipe that carries its events, is read.

    A button counts when it is pressed, not when it was down at opening; a stick counts as it stands.
    """

    def __init__(self, path: Path, settings: GamepadSettings) -> None:
        self.path, self._settings = path, settings
        self.help = HELP.format(**settings.model_dump())
        self._buttons = {getattr(settings, press): press for press in PRESSES}
        self._axes = {getattr(settings, axis): axis for axis in AXES}
        self._asked = np.zeros(len(AXES), np.float32)
        self._descriptor: int | None = None
        self._tail, self._heard = b"", False

    def __enter__(self) -> Gamepad:
        """Raises OperatorError when it cannot be opened, or two things lie on one button or axis."""
        if len(self._buttons) < len(PRESSES) or len(self._axes) < len(AXES):
            raise OperatorError(
                f"two things lie on one button or axis of the gamepad: {self._settings}; give each a number of its own"
            )
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise OperatorError(
                f"gamepad {self.path} cannot be opened ({error.strerror}); plug it in, or join the group of the "
                "device (often `input`)"
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def presses(self) -> list[str]:
        """What was pressed since the last call; sticks are taken note of.

        Raises:
            OperatorError: the gamepad is gone, or this is no joystick device.
        """
        words = []
        for value, kind, number in self._events():
            if kind & ~INIT not in (BUTTON, AXIS):
                raise OperatorError(
                    f"{self.path} sends an event of type {kind:#x}, which no joystick does; give /dev/input/jsN, not "
                    "/dev/input/eventN"
                )
            if kind == BUTTON and value and number in self._buttons:
                words.append(self._buttons[number])
            elif kind & AXIS and number in self._axes:
                self._asked[AXES.index(self._axes[number])] = self._deflection(value) * WAYS[self._axes[number]]
        return words

    def motion(self) -> NDArray[np.float32]:
        """As the sticks stand."""
        return self._asked.copy()

    def _deflection(self, value: int) -> float:
        share, still = value / FULL, self._settings.deadzone
        return float(np.sign(share) * np.clip((abs(share) - still) / (1.0 - still), 0.0, 1.0))

    def _events(self) -> list[tuple[int, int, int]]:
        """(value, type, number) of what came; a torn event waits for its rest."""
        if self._descriptor is None:
            raise OperatorError(f"gamepad {self.path} is not open; use it in a with statement")
        try:
            came = os.read(self._descriptor, READ_EVENTS * EVENT.size)
        except BlockingIOError:
            return []
        except OSError as error:
            raise OperatorError(f"gamepad {self.path} is gone ({error.strerror}); plug it in again") from error
        if not came and self._heard:  # before the first event, a pipe that nobody writes to yet
            raise OperatorError(f"gamepad {self.path} was closed at its other end")
        self._heard = self._heard or bool(came)
        whole = self._tail + came
        cut = len(whole) - len(whole) % EVENT.size
        self._tail = whole[cut:]
        return [event[1:] for event in EVENT.iter_unpack(whole[:cut])]
