"""A real policy server process around PointPolicy: python point_server.py ADDRESS DELAY_S. It serves until SIGTERM."""

from __future__ import annotations

import signal
import sys

from point_world import PointPolicy

from flexor.runtime.serving.server import PolicyServer


def main(address: str, delay_s: float) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with PolicyServer(PointPolicy(delay_s, far=2.0), address) as server:
        server.wait_ready(30.0)
        print("ready", flush=True)
        while not server.wait(0.2):
            pass


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
