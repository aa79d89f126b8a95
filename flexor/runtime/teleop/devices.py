"""Devices: opens what a person has here to operate with, and leaves everything as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from flexor.runtime.teleop.device import Device, OperatorError
from flexor.runtime.teleop.gamepad import Gamepad
from flexor.runtime.teleop.operator_settings import OperatorSettings
from flexor.runtime.teleop.terminal_keys import TerminalKeys

JOYSTICKS = Path("/dev/input")


@contextlib.contextmanager
def open_devices(gamepad: Path | None, settings: OperatorSettings, descriptor: int = 0) -> Iterator[tuple[Device, ...]]:
    """The keys of the terminal at `descriptor`, where it is one, and a gamepad, where one is given.

    Raises:
        OperatorError: there is neither, or one of them cannot be used.
    """
    with contextlib.ExitStack() as opened:
        devices: list[Device] = []
        if gamepad is not None:
            devices.append(opened.enter_context(Gamepad(gamepad, settings.gamepad)))
        if os.isatty(descriptor):
            devices.append(opened.enter_context(TerminalKeys(descriptor, settings.pulse_s)))
        if not devices:
            found = ", ".join(str(path) for path in sorted(JOYSTICKS.glob("js*"))) or "none is plugged in"
            raise OperatorError(
                "an operator needs keys or a gamepad, and standard input is no terminal; run it in one (`ssh -t`), or "
                f"give --gamepad /dev/input/jsN ({found})"
            )
        yield tuple(devices)
