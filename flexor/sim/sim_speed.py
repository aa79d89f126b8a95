"""How fast a simulator runs here: control steps a second, with and without frames, alone and beside its like."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flexor.runtime.robot import Robot
from flexor.runtime.worker_pool import Alive, Job, Result, WorkerPool
from flexor.sim.libero.protocol import LiberoSettings
from flexor.sim.robots import LIBERO, open_robot

TIMEOUT_S = 600.0
REACH = 0.5  # of the largest action: the arm moves about and meets things


@dataclass(frozen=True, slots=True)
class SimSpeed:
    """One measurement.

    Attributes:
        workers: processes that simulated at the same time.
        frames: "none", or how both cameras were drawn: "official" or "fast" for LIBERO, "own" for tabletop.
        every: control steps from one pair of frames to the next; 0 without frames.
        steps_per_s: control steps a second, of all workers together.
        frame_ms: time that drawing a frame took, mean; None without frames.
    """

    workers: int
    frames: str
    every: int
    steps_per_s: float
    frame_ms: float | None


def measure(sim: str, steps: int, workers: int, every: int) -> Iterator[SimSpeed]:
    """Time `steps` control steps of the first task in each of 1 to `workers` processes, for each way of rendering.

    Args:
        sim: the simulator's name, e.g. "libero_spatial".
        every: control steps from one look to the next, where there are frames.

    Raises:
        FlexorError: the simulator cannot run here.
    """
    ways = ("official", "fast") if sim in LIBERO else ("own",)
    for count in range(1, workers + 1):
        for frames in ways:
            with WorkerPool(_make_stepper, (sim, frames), count, TIMEOUT_S) as pool:
                list(pool.results([{"steps": 0}] * count))  # one each: built, and its first frame drawn
                for looks in (0, every) if frames == ways[0] else (every,):
                    done = list(pool.results([{"steps": steps, "every": looks}] * count))
                    rate = sum(steps / result["seconds"] for result in done)
                    drawn = [result["frame_ms"] for result in done]
                    yield SimSpeed(
                        count, frames if looks else "none", looks, rate, float(np.mean(drawn)) if looks else None
                    )


def _make_stepper(sim: str, frames: str) -> Callable[[Job, Alive], Result]:
    robot = open_robot(f"sim:{sim}", libero=LiberoSettings(render=frames) if sim in LIBERO else None)
    robot.reset(0, next(iter(robot.spec.tasks)))
    robot.observe()
    return lambda job, alive: _step(robot, job["steps"], job.get("every", 0))


def _step(robot: Robot, steps: int, every: int) -> Result:
    robot.reset(0, next(iter(robot.spec.tasks)))
    actions = np.random.default_rng(0).uniform(-REACH, REACH, (steps, robot.spec.action_dim)).astype(np.float32)
    drawing_s, drawn = 0.0, 0
    start = time.perf_counter()
    for step, action in enumerate(actions):
        if every and step % every == 0:
            looked = time.perf_counter()
            drawn += len(robot.observe().images)
            drawing_s += time.perf_counter() - looked
        robot.act(action)
    return {"seconds": time.perf_counter() - start, "frame_ms": 1000.0 * drawing_s / drawn if drawn else None}
