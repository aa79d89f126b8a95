"""A flexor command with all that it starts, found again by a mark in their environment, killed, and waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

MARK = "WHOLE_COMMAND_TEST"
PATIENCE_S = 600.0  # many processes that import torch and MuJoCo one after the other, on a machine that may be busy


class WholeCommand:
    """Starts `flexor ARGUMENTS`; its words on both outputs go to `log`.

    Args:
        folder: where temporary files of it and its children go, and the log.
        arguments: of the command.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log, self._mark = folder / "said.log", uuid.uuid4().hex
        environment = {**os.environ, MARK: self._mark, "TMPDIR": str(folder), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as stream:
            command = [sys.executable, "-m", "flexor.cli.main", *arguments]
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)

    def processes(self) -> list[int]:
        """Ids of those that live, its own among them."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{MARK}={self._mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(int(entry.name))
            except OSError:  # it has just ended, or belongs to somebody else
                continue
        return found

    def child(self, word: str) -> int | None:
        """A process of it other than the first that has this word in its command line."""
        for pid in self.processes():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if pid != self.process.pid and word.encode() in words:
                return pid
        return None

    def said(self) -> str:
        """All that it has said."""
        return self.log.read_text(errors="replace")

    def wait_until(self, what: str, happened: Callable[[], object]) -> None:
        """Wait for something that must happen while it runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert self.process.poll() is None, f"it ended before {what}: {self.said()}"
            assert time.monotonic() < deadline, f"{what}: {self.said()}"
            time.sleep(0.02)

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(PATIENCE_S)

    def kill(self, everything: bool) -> None:
        """kill -9: of all of its processes, or of the first alone, after which the others must end by themselves."""
        doomed = self.processes() if everything else [self.process.pid]
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(PATIENCE_S)
        self.check_gone()

    def check_gone(self) -> None:
        """Nothing that it has started is there any more."""
        deadline = time.monotonic() + PATIENCE_S
        while left := self.processes():
            assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
            time.sleep(0.05)
