"""A real policy server process around PointPolicy, and the handle by which tests start, freeze and kill it."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from point_world import PointPolicy
from telling_process import PATIENCE_S

from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings


def main() -> None:
    """Serve until SIGTERM, and say so when ready."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("delay_s", type=float, nargs="?", default=0.0)
    parser.add_argument("--idle-limit-s", type=float, default=120.0)
    parser.add_argument("--clock-back", action="store_true")
    given = parser.parse_args()
    if given.clock_back:
        from point_daemon import set_clock_back

        set_clock_back()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    settings = ServerSettings(idle_limit_s=given.idle_limit_s)
    with PolicyServer(PointPolicy(given.delay_s, far=2.0), given.address, settings) as server:
        server.wait_ready(30.0)
        print("ready", flush=True)
        while not server.wait(0.2):
            pass


class PointServer:
    """One address, and the process that serves it now. As a context it is started and closed."""

    def __init__(self, *options: object) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fx")  # a short name: it holds sockets
        self.address = f"ipc://{self._folder.name}/policy.sock"
        self._command = [sys.executable, str(Path(__file__)), self.address, *map(str, options)]
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: object) -> None:
        """Start it, with more options; it is ready some time later."""
        self.process = subprocess.Popen([*self._command, *map(str, options)], stdout=subprocess.PIPE, text=True)

    def wait_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def settled(self) -> dict[str, Any]:
        """Its counters, once it has answered whatever reached it."""
        deadline = time.monotonic() + PATIENCE_S
        with ServerControl(self.address, PATIENCE_S) as control:
            while True:
                stats = control.stats()
                if sum(stats["received"].values()) == sum(stats["replies"].values()):
                    return stats
                assert time.monotonic() < deadline, stats
                time.sleep(0.02)

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()

    def __enter__(self) -> PointServer:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


if __name__ == "__main__":
    main()
