"""BusyProcesses: neighbours that keep a core busy each, for measuring beside them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from types import TracebackType

from flexor.errors import FlexorError
from flexor.runtime.child_process import end

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Matrix products, as a simulator's neighbour or a learner makes them. A parent that is gone ends it, however it went.
_PROGRAM = """
import os, sys
import numpy as np
parent = int(sys.argv[1])
matrix = np.full((256, 256), 0.01, np.float32)
print("busy", flush=True)
while os.getppid() == parent:
    for _ in range(20):
        matrix @ matrix
"""


class BusyProcesses:
    """A context in which `count` processes of one busy thread each run; none is left after it.

    Args:
        count: 0 or more.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        """Process ids of those that run now."""
        return [process.pid for process in self._processes]

    def __enter__(self) -> BusyProcesses:
        try:
            for _ in range(self._count):
                command = [sys.executable, "-c", _PROGRAM, str(os.getpid())]
                environment = {**os.environ, **_ONE_THREAD}
                # In a session of its own: Ctrl-C is for the parent, which ends it without a traceback.
                process = subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
                self._processes.append(process)
            for process in self._processes:
                _wait_until_busy(process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        end(*self._processes, patience_s=STOP_TIMEOUT_S)
        for process in self._processes:
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()


def _wait_until_busy(process: subprocess.Popen[bytes]) -> None:
    pipe = process.stdout
    if pipe is None or not select.select([pipe], [], [], START_TIMEOUT_S)[0] or pipe.readline() != b"busy\n":
        raise FlexorError(f"busy process {process.pid} did not start within {START_TIMEOUT_S:g} s; is numpy installed?")
