"""TerminalKeys: single key presses from a terminal, over ssh as well; the terminal is left as it was found."""

from __future__ import annotations

import atexit
import os
import re
import select
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.teleop.device import AXES, OperatorError

WORDS = {
    "t": "takeover",
    "g": "gripper",
    "y": "success",
    "n": "failure",
    "x": "abort",
    "\n": "ready",
    "\r": "ready",
}
MOVES = {
    **{"w": ("x", 1), "s": ("x", -1), "a": ("y", 1), "d": ("y", -1), "q": ("z", 1), "e": ("z", -1)},
    **{"l": ("roll", 1), "j": ("roll", -1), "i": ("pitch", 1), "k": ("pitch", -1)},
    **{"u": ("yaw", 1), "o": ("yaw", -1)},
}
HELP = (
    "Enter: begin  t: take over, hand back  w/s a/d q/e: forward/back left/right up/down  l/j i/k u/o: roll pitch yaw  "
    "g: gripper  y: success  n: failure  x: abort"
)
READ_BYTES = 256  # at most in one control step
_ESCAPES = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]")  # arrows and the like: their letters are no keys
_BEGUN = re.compile(r"\x1b[\[O][0-9;]*$")  # one of them whose end is still to come


class TerminalKeys:
    """A Device: a context in which the terminal gives every key at once and echoes none.

    A terminal tells when a key is pressed, not when it is let go: each press asks for motion during `pulse_s`, so that
    a lost connection stops the arm. Ctrl-C still interrupts; Ctrl-Z and Ctrl-\\ do nothing, for a daemon that stands
    still has no control over the arm.
    """

    help = HELP

    def __init__(self, descriptor: int, pulse_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """`descriptor`: of the terminal, open for reading."""
        self._descriptor, self._pulse_s, self._now = descriptor, pulse_s, now
        self._before: list[Any] | None = None
        self._pulses: dict[str, tuple[int, float]] = {}  # by axis: the way, and until when
        self._tail = ""

    def __enter__(self) -> TerminalKeys:
        """Raises OperatorError when it is no terminal, or this process is in its background."""
        try:
            before = termios.tcgetattr(self._descriptor)
        except (termios.error, OSError) as error:
            raise OperatorError(f"no keys can be read: standard input is not a terminal ({error})") from error
        if self._in_background():
            raise OperatorError("no keys can be read: the run is in the background of its terminal; start it without &")
        mine = termios.tcgetattr(self._descriptor)
        mine[3] &= ~(termios.ICANON | termios.ECHO)
        letters = list(mine[6])
        letters[termios.VMIN], letters[termios.VTIME] = 1, 0
        letters[termios.VSUSP] = letters[termios.VQUIT] = b"\0"  # 0 switches a letter off on Linux
        mine[6] = letters
        self._before = before
        atexit.register(self._restore)
        termios.tcsetattr(self._descriptor, termios.TCSANOW, mine)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()
        atexit.unregister(self._restore)

    def presses(self) -> list[str]:
        """What was pressed since the last call; motion keys are taken note of.

        Raises:
            OperatorError: the terminal is gone.
        """
        words = []
        for key in self._keys():
            if key in WORDS:
                words.append(WORDS[key])
            elif key in MOVES:
                axis, way = MOVES[key]
                self._pulses[axis] = way, self._now() + self._pulse_s
        return words

    def motion(self) -> NDArray[np.float32]:
        """What the keys that were pressed last ask for, while their pulse lasts."""
        now, asked = self._now(), np.zeros(len(AXES), np.float32)
        for axis, (way, until) in self._pulses.items():
            if now < until:
                asked[AXES.index(axis)] = way
        return asked

    def _keys(self) -> str:
        """Newly pressed keys, capitals as small letters."""
        if not select.select([self._descriptor], [], [], 0.0)[0]:
            return ""
        try:
            came = os.read(self._descriptor, READ_BYTES)
        except OSError as error:
            raise OperatorError(f"the operator's terminal is gone ({error}); start the run again") from error
        if not came:
            raise OperatorError("the operator's terminal was closed; start the run again")
        text = _ESCAPES.sub("", self._tail + came.decode(errors="ignore"))
        begun = _BEGUN.search(text)
        self._tail = "" if begun is None else begun.group()
        return text.removesuffix(self._tail).lower()

    def _in_background(self) -> bool:
        try:
            return os.tcgetpgrp(self._descriptor) != os.getpgrp()
        except OSError:
            return False  # not the terminal that controls this process: nobody stops us there

    def _restore(self) -> None:
        if self._before is not None:
            before, self._before = self._before, None
            try:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, before)
                termios.tcflush(self._descriptor, termios.TCIFLUSH)  # what was typed for the arm is not for the shell
            except (termios.error, OSError):
                return  # the terminal itself is gone
