"""A child process that tells what it does, and the handle by which a test watches it, freezes it and kills it.

It tells one JSON line at a time on its standard output, in one write each, so that what was told before a kill -9 is
there, with the clock that all processes share.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

PATIENCE_S = 60.0


def tell(what: str, **more: Any) -> None:
    """Called by the child."""
    os.write(1, (json.dumps({"what": what, "t": time.monotonic(), **more}) + "\n").encode())


class TellingProcess:
    """The process, and what it has told so far. Use it as a context; it is killed at the end."""

    def __init__(self, command: Sequence[object]) -> None:
        self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(json.JSONDecodeError):  # a line that the kill cut
                self.lines.append(json.loads(line))

    def told(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["what"] == what]

    def wait_for(self, what: str, count: int = 1) -> None:
        """Return when it has told `what` so often."""
        self.wait_until(lambda: len(self.told(what)) >= count)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.lines[-3:]}"
            assert time.monotonic() < deadline, self.lines[-3:]
            time.sleep(0.005)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once everything it told has been read."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
