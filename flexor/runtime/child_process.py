"""Child processes: how they end with the process that started them, however that ends, and how it ends them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

from flexor.errors import FlexorError

Child = subprocess.Popen[Any] | BaseProcess
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """What to give to subprocess.Popen as preexec_fn: on Linux the kernel sends the child `number` when we die.

    "We" is the thread that starts the child (prctl(2)): start it from one that lives as long as the process does.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # loaded before the fork
    parent = os.getpid()

    def ask_the_kernel() -> None:
        if libc is None:
            return
        libc.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(128 + number)

    return ask_the_kernel


def end(*children: Child, patience_s: float) -> None:
    """Ask children to end (SIGTERM), all at once, and kill those that take longer than `patience_s` each.

    A child that leads a group of processes (start_new_session) is asked, and if need be killed, with all of them.

    Raises:
        FlexorError: one is still there `patience_s` after it was killed.
    """
    for child in children:
        _send(child, signal.SIGTERM)
    await_end(*children, patience_s=patience_s)


def await_end(*children: Child, patience_s: float) -> None:
    """The rest of `end`, for children that were asked in another way: by the end of a pipe that they read.

    Raises:
        FlexorError: one is still there `patience_s` after it was killed.
    """
    stubborn = [child for child in children if not _ended(child, patience_s)]
    for child in stubborn:
        _send(child, signal.SIGKILL)
    if left := [child.pid for child in stubborn if not _ended(child, patience_s)]:
        raise FlexorError(
            f"processes {left} are still there {patience_s:g} s after SIGKILL, so the kernel holds them (a disk or a "
            "driver that does not answer); look at dmesg"
        )


def _ended(child: Child, within_s: float) -> bool:
    """Whether it ends in time; once it has, its exit code is collected."""
    if isinstance(child, BaseProcess):
        child.join(within_s)
        return child.exitcode is not None
    with suppress(subprocess.TimeoutExpired):
        child.wait(within_s)
    return child.returncode is not None


def _send(child: Child, number: signal.Signals) -> None:
    if child.pid is None or _ended(child, 0.0):
        return
    with suppress(ProcessLookupError):  # it has just ended
        if os.getpgid(child.pid) == child.pid:
            os.killpg(child.pid, number)
        else:
            os.kill(child.pid, number)
