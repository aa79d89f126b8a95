"""A child process that does not outlive the process that started it, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

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
