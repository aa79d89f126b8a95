"""A house for adapters: a server with a directory of them, a client, and its control socket, all real."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from random_adapters import ALPHA, RANK, draw_factors

from flexor.pi05.lora_targets import PAIRS, Pairs
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings

PATIENCE_S = 120.0
QUICK = {"rank": RANK, "alpha": ALPHA, "max_change": 1e6, "max_difference": 100.0, "shadow_requests": 2}


def observation(seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (32, 32, 3), np.uint8) for name in ("agentview", "wrist")}
    return Observation(images, rng.normal(size=8).astype(np.float32), "put the red cube on the green plate")


class House:
    """Of one bundle, in a folder with a short name; start() it, stop() it."""

    def __init__(self, bundle: Bundle, folder: Path, context: zmq.Context[Any], **settings: Any) -> None:
        self.bundle, self.root, self.context = bundle, folder / "adapters", context
        self.address = f"ipc://{folder}/policy.sock"
        self.settings = ServerSettings(adapters=AdapterSettings(**{**QUICK, "dir": self.root, **settings}))
        self.server: PolicyServer | None = None

    def start(self) -> House:
        policy = Policy(self.bundle, open_engine(self.bundle, flow_steps=2))
        self.server = PolicyServer(policy, self.address, self.settings, self.bundle)
        self.server.start()
        self.server.wait_ready(PATIENCE_S)
        self.client = PolicyClient(self.address, PATIENCE_S, context=self.context, share_memory=False)
        self.control = ServerControl(self.address, PATIENCE_S, self.context)
        return self

    def stop(self) -> None:
        if self.server is not None:
            self.client.close()
            self.control.close()
            self.server.stop()
            self.server = None

    def write(self, seed: int = 0, size: float = 0.05, pairs: Pairs = PAIRS, **more: Any) -> str:
        factors = draw_factors(self.bundle.model_config, seed, size, pairs=pairs)
        return write_adapter(self.root, factors, self.bundle, **{"rank": RANK, "alpha": ALPHA, **more}).name

    def ask(self) -> str:
        """Ask for a chunk; the adapter that it is of."""
        return self.client.infer(observation(), noise_seed=1).provenance.adapter

    def actions(self) -> np.ndarray:
        return self.client.infer(observation(), noise_seed=1).actions

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.control.adapters()["adapters"] if row["id"] == name)

    def until(self, name: str, state: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while (row := self.row(name))["state"] != state:
            assert time.monotonic() < deadline, row
            self.ask()
            time.sleep(0.02)
        return row

    def play(self, success: Callable[[str], bool], task: str = "stack", seed: int | None = None) -> str:
        """One episode; what it played."""
        adapter = self.client.begin_episode(task, seed)
        assert self.ask() == adapter
        self.client.end_episode("success" if success(adapter) else "failure")
        return adapter
