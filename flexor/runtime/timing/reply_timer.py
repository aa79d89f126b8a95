"""The client's side of a latency measurement, in a process of its own as on a robot; needs what a client needs.

Run as a program it reads a JSON object {address, cameras, state_dim, image_size, n, period_s} from its standard input
and writes {reply_ms: [n], engine_ms: [n]}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from flexor.errors import FlexorError
from flexor.runtime.observation import ActionChunk, Observation
from flexor.runtime.serving.client import PolicyClient

OBSERVATIONS = 8  # different ones, taken in turn
READY_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 10.0
WARM_UP_REPLIES = 2


def synthetic_observations(cameras: Sequence[str], state_dim: int, image_size: int) -> list[Observation]:
    """Noise in every camera, states between -0.5 and 0.5, a prompt; the same each time."""
    generator = np.random.default_rng(0)
    shape = (image_size, image_size, 3)
    return [
        Observation(
            images={camera: generator.integers(0, 256, shape, np.uint8) for camera in cameras},
            state=generator.uniform(-0.5, 0.5, state_dim).astype(np.float32),
            prompt="put the red block on the plate",
        )
        for _ in range(OBSERVATIONS)
    ]


def engine_ms(chunk: ActionChunk) -> float:
    """The engine's share of a chunk's time."""
    return chunk.timing_ms["encode"] + chunk.timing_ms["denoise"]


def time_asking(address: str, observations: Sequence[Observation], n: int, period_s: float) -> dict[str, list[float]]:
    """Ask n times, once a period: reply_ms from asking to the chunk in hand, engine_ms as the server reports it.

    Raises:
        ServerTimeout, ServerRefused: the server did not answer.
    """
    replies: list[float] = []
    engine: list[float] = []
    with PolicyClient(address, REPLY_TIMEOUT_S) as client:
        client.wait_ready(READY_TIMEOUT_S)
        for call in range(-WARM_UP_REPLIES, n):
            began = time.perf_counter()
            chunk = client.infer(observations[call % len(observations)], step=call + WARM_UP_REPLIES, noise_seed=7)
            seconds = time.perf_counter() - began
            if call >= 0:
                replies.append(1000.0 * seconds)
                engine.append(engine_ms(chunk))
            time.sleep(max(0.0, period_s - seconds))
    return {"reply_ms": replies, "engine_ms": engine}


def ask_from_another_process(
    address: str, cameras: Sequence[str], state_dim: int, image_size: int, n: int, period_s: float
) -> dict[str, list[float]]:
    """`time_asking` in a new process, which is gone when this returns or raises.

    Raises:
        FlexorError: it failed, with what it said last, or it took too long.
    """
    setting = {"address": address, "cameras": list(cameras), "state_dim": state_dim}
    setting |= {"image_size": image_size, "n": n, "period_s": period_s}
    limit_s = READY_TIMEOUT_S + (n + WARM_UP_REPLIES) * (REPLY_TIMEOUT_S + period_s)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "flexor.runtime.timing.reply_timer"],
            input=json.dumps(setting),
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )
    except subprocess.TimeoutExpired as error:
        raise FlexorError(f"the timing client at {address} did not end within {limit_s:g} s") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise FlexorError(f"the timing client at {address} ended with code {done.returncode}; it said: {said[-1]}")
    return json.loads(done.stdout)


def main() -> None:
    """Measure what standard input asks for."""
    setting = json.load(sys.stdin)
    observations = synthetic_observations(setting["cameras"], setting["state_dim"], setting["image_size"])
    json.dump(time_asking(setting["address"], observations, setting["n"], setting["period_s"]), sys.stdout)


if __name__ == "__main__":
    main()
