"""Measures the oracle: how often the scripted expert itself succeeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flexor.runtime.metrics import wilson
from flexor.runtime.worker_pool import Alive, Job, Result, WorkerPool
from flexor.sim.oracle import Oracle
from flexor.sim.scenes import SCENES
from flexor.sim.shift import NONE, Shift
from flexor.sim.tabletop import MAX_STEPS, find_task
from flexor.sim.tasks import Task, is_done
from flexor.sim.world import World

TRIAL_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt of the oracle."""

    task: str
    seed: int
    success: bool
    steps: int


def try_oracle(
    tasks: Sequence[str],
    episodes: int,
    seed: int,
    workers: int,
    told: Callable[[Trial], None],
    skip: int = 0,
    shift: Shift = NONE,
) -> list[Trial]:
    """`episodes` attempts from seed on, tasks in turn, nothing rendered; `told` hears of each; sorted by seed.

    The first `skip` of them are left out: what is played is a part of the whole, each attempt as there.

    Raises:
        TaskError: a task that there is not.
    """
    for task in tasks:
        find_task(task)
    jobs: list[Job] = [{"name": tasks[i % len(tasks)], "seed": seed + i} for i in range(skip, episodes)]
    trials: list[Trial] = []
    with WorkerPool(_worker, (shift,), workers, TRIAL_LIMIT_S) as pool:
        for row in pool.results(jobs):
            trials.append(Trial(**row))
            told(trials[-1])
    return sorted(trials, key=lambda trial: trial.seed)


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Success of some attempts (at least one) in the JSON keys that all commands share."""
    successes = sum(trial.success for trial in trials)
    rate, low, high = wilson(successes, len(trials))
    return {
        "success_rate": rate,
        "episodes": len(trials),
        "successes": successes,
        "ci95": [low, high],
        "steps_mean": sum(trial.steps for trial in trials) / len(trials),
    }


def _worker(shift: Shift) -> Callable[[Job, Alive], Result]:
    """In a worker: one world of each scene that it meets, for all its attempts."""
    worlds: dict[str, World] = {}

    def work(job: Job, alive: Alive) -> Result:
        task = find_task(job["name"])
        if task.scene not in worlds:
            worlds[task.scene] = World(SCENES[task.scene], shift)
        return asdict(attempt(task, worlds[task.scene], job["seed"]))

    return work


def attempt(task: Task, world: World, seed: int) -> Trial:
    """One attempt in a world of the task's scene, from the beginning that the seed says."""
    oracle = Oracle(task)
    world.reset(seed)
    for step in range(1, MAX_STEPS + 1):
        world.act(oracle.act(world))
        if is_done(task, world):
            return Trial(task.name, seed, True, step)
    return Trial(task.name, seed, False, MAX_STEPS)
