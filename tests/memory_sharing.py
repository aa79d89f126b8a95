"""For tests of shared memory: a policy that keeps what it was shown, and clients whose memory the server has taken."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fake_policy import FakePolicy, observation
from numpy.typing import NDArray

from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.client import PolicyClient

TIMEOUT_S = 20.0


class Seeing(FakePolicy):
    """Keeps a copy of every image, and whether it could have written into what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[dict[str, NDArray[np.uint8]]] = []
        self.writeable = False

    def infer(
        self, observation: Observation, noise_seed: int, action_prefix: NDArray[np.float32] | None = None
    ) -> ActionChunk:
        chunk = super().infer(observation, noise_seed, action_prefix)
        self.shown.append({name: image.copy() for name, image in observation.images.items()})
        self.writeable |= any(image.flags.writeable for image in observation.images.values())
        return chunk


def sharing(client: PolicyClient) -> PolicyClient:
    """The client once the server has its memory."""
    deadline = time.monotonic() + TIMEOUT_S
    while not client.shares_memory:
        client.infer(observation())
        assert time.monotonic() < deadline, "the server did not take the memory"
    return client


def noise(seed: int, size: int = 16) -> Observation:
    seen = observation(size=size)
    generator = np.random.default_rng(seed)
    images = {name: generator.integers(0, 256, image.shape, np.uint8) for name, image in seen.images.items()}
    return Observation(images, seen.state, seen.prompt)


def mapped() -> int:
    """How many memories of clients, and of what they were tested with, this process has mapped."""
    return Path("/proc/self/maps").read_text().count("memfd:")


def settled(count: Callable[[], int], expected: int) -> int:
    """`count()`, at the latest when TIMEOUT_S are over, as soon as it is `expected`."""
    deadline = time.monotonic() + TIMEOUT_S
    while count() != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return count()


def unsealed() -> int:
    made = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(made, 4096)
    return made
