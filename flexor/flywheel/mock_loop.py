"""The whole loop in half a minute, with a policy that can do nothing: collect, learn, publish, swap.

Every number of it is a mock: pi05-micro is trained for a moment on a few demonstrations, so that it has words and
statistics, and the adapter learns a few steps from the same ones. What is real: simulator, episodes, learner, server
process, verification, shadow, swap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.server_process import START_LIMIT_S, ServerProcess
from flexor.learner.continual.announcer import Announcer
from flexor.learner.continual.daemon import DaemonWatcher, LearnerDaemon
from flexor.learner.continual.settings import ContinualSettings
from flexor.learner.pretrain import Watcher, pretrain
from flexor.learner.settings import PretrainSettings
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.control import ServerControl
from flexor.sim.collect import CollectSettings, collect
from flexor.sim.robots import open_robot

SIM = "sim:tabletop"
TASK = "purple_block_on_yellow_block"
DEMONSTRATIONS, SEED, IMAGE_SIZE = 4, 7000, 64
POLICY = PretrainSettings(preset="pi05-micro", batch=16, samples=320, warmup_steps=5, held_out=0.2, evaluate_steps=1000)
LEARNING = ContinualSettings.model_validate(
    {"batch": 8, "accumulation": 1, "draws": 2, "encodings": 1, "steps": 20, "held_out": 1e-9}
    | {"precision": "fp32", "publish": {"every_episodes": 1, "min_episodes": 1}}
)
SHADOWED = 4
TRIAL = (f"adapters.shadow_requests={SHADOWED}", "adapters.canary_episodes=0", "adapters.swap=chunk")
"""No canary: a policy that never succeeds cannot show that another one is as good."""
REPLY_TIMEOUT_S, SWAP_TIMEOUT_S = 10.0, 30.0
STEPS_A_CHUNK, AFTER = 5, 3  # chunks that are played after the swap


def run_mock(folder: Path, told: Callable[[str], None]) -> dict[str, Any]:
    """Collect demonstrations, make a policy of them, learn an adapter, and swap it into a server that is asked.

    Args:
        folder: an empty one, for all that is made.
        told: hears of each piece of work, before it is done.

    Returns:
        mock: True; demonstrations; loss_before and loss_after of the adapter's first and last steps; adapter; state
        (ACTIVE); served_before, served_after: adapter of the first and the last chunk; chunks; seconds.

    Raises:
        FlexorError: a part failed, a request was lost, or the server did not take the adapter, with its reason.
    """
    began = time.monotonic()
    data, policy, adapters = folder / "episodes", folder / "mock-policy", folder / "adapters"
    told(f"collecting {DEMONSTRATIONS} demonstrations of {TASK}")
    chosen = CollectSettings(image_size=IMAGE_SIZE)
    collect(data, SIM, DEMONSTRATIONS, SEED, 1, chosen, lambda demonstration, missing: None, tasks=(TASK,))
    told(f"making a policy of them: pi05-micro, {POLICY.samples} samples")
    pretrain(data, policy, POLICY, Watcher(lambda done, total: None, lambda standing: None))
    told("starting a server")
    with ServerProcess(str(policy), ["--adapters", str(adapters), *TRIAL]) as server:
        told(f"learning an adapter in {LEARNING.steps} steps")
        adapter, losses = _learn(Bundle.open(policy), data, adapters)
        server.wait_ready(START_LIMIT_S)
        told(f"publishing {adapter}")
        answer, why = Announcer(server.address).announce(adapter)
        if answer != "taken":
            raise FlexorError(f"the server did not take {adapter}: {why}")
        told("asking until it is swapped in")
        served = _ask(server, adapter)
        with ServerControl(server.address) as control:
            row = next(row for row in control.adapters()["adapters"] if row["id"] == adapter)
    return {
        "mock": True,
        "demonstrations": DEMONSTRATIONS,
        "loss_before": losses[0],
        "loss_after": losses[-1],
        "adapter": adapter,
        "state": row["state"],
        "served_before": served[0],
        "served_after": served[-1],
        "chunks": len(served),
        "seconds": time.monotonic() - began,
    }


def _learn(bundle: Bundle, data: Path, adapters: Path) -> tuple[str, list[float]]:
    """One adapter of the daemon, and the loss of each of its steps."""
    losses: list[float] = []
    watcher = DaemonWatcher(
        lambda event, numbers: None, lambda done, total: None, lambda standing: losses.append(standing.loss)
    )
    LearnerDaemon(bundle, data, adapters, LEARNING, watcher, count=1).run()
    return next(path.name for path in adapters.iterdir() if path.is_dir()), losses


def _ask(server: ServerProcess, adapter: str) -> list[str]:
    """Play chunks in the simulator, which waits for each, until AFTER of them were the adapter's; whose each was."""
    robot, served = open_robot(SIM), []
    try:
        robot.reset(SEED, TASK)
        deadline = time.monotonic() + SWAP_TIMEOUT_S
        with PolicyClient(server.address, REPLY_TIMEOUT_S) as client:
            client.begin_episode(TASK, SEED)
            while served.count(adapter) < AFTER:
                server.check()
                if time.monotonic() > deadline:
                    raise FlexorError(f"{adapter} is not served after {SWAP_TIMEOUT_S:g} s and {len(served)} chunks")
                chunk = client.infer(robot.observe(), step=len(served) * STEPS_A_CHUNK)
                served.append(chunk.provenance.adapter)
                for action in chunk.actions[:STEPS_A_CHUNK]:
                    robot.act(action)
            client.end_episode("unknown")
    finally:
        robot.close()
    return served
