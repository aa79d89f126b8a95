"""A client in a process of its own that asks without pause, and the handle by which tests watch it.

It tells every ask and every end of one; some requests are stale when they are sent, and some are bad. It ends when
each has been answered.
"""

from __future__ import annotations

import random
import sys

import numpy as np
from point_world import POINT_SPEC, SENTENCES
from telling_process import TellingProcess, tell

from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient

TIMEOUT_S = 20.0


def observation(state_dim: int = POINT_SPEC.state_dim) -> Observation:
    """What the point would see; the policy fails on a state of another size."""
    images = {camera: np.full((*size, 3), 7, np.uint8) for camera, size in POINT_SPEC.cameras.items()}
    return Observation(images, np.zeros(state_dim, np.float32), SENTENCES["left"])


def main(address: str, requests: int, seed: int) -> None:
    chance, under_way = random.Random(seed), 0
    with PolicyClient(address, TIMEOUT_S) as client:
        client.wait_ready(TIMEOUT_S)
        tell("ready")
        for step in range(requests):
            seen, budget_ms = observation(chance.choice((8, 8, 8, 2))), chance.choice((0.01, 5.0, None))
            tell("ask", id=client.ask(seen, step, budget_ms=budget_ms))
            under_way += 1
            while under_way > chance.randrange(3) and (reply := client.poll(TIMEOUT_S)) is not None:
                tell("end", id=reply.id, type=reply.type)
                under_way -= 1
        while under_way and (reply := client.poll(TIMEOUT_S)) is not None:
            tell("end", id=reply.id, type=reply.type)
            under_way -= 1
        late = client.poll(0.05)
        if late is not None:
            tell("end", id=late.id, type=late.type)


class AskingClient(TellingProcess):
    """The process."""

    def __init__(self, address: str, requests: int, seed: int) -> None:
        super().__init__([sys.executable, __file__, address, requests, seed])

    def __enter__(self) -> AskingClient:
        return self


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
