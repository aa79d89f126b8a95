"""Measures the oracle: how often the scripted expert itself succeeds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from flexor.runtime.metrics import wilson
from flexor.sim.oracle import Oracle
from flexor.sim.scenes import SCENES
from flexor.sim.tabletop import MAX_STEPS, find_task
from flexor.sim.tasks import is_done
from flexor.sim.world import World

TRIALS_A_JOB = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt of the oracle."""

    task: str
    seed: int
    success: bool
    steps: int


def try_oracle(
    tasks: Sequence[str], episodes: int, seed: int, workers: int, told: Callable[[Trial], None]
) -> list[Trial]:
    """`episodes` attempts from seed on, tasks in turn, nothing rendered; `told` hears of each; sorted by seed.

    Raises:
        TaskError: a task that there is not.
    """
    for task in tasks:
        find_task(task)
    plan = [(tasks[i % len(tasks)], seed + i) for i in range(episodes)]
    jobs = [plan[i : i + TRIALS_A_JOB] for i in range(0, len(plan), TRIALS_A_JOB)]
    trials: list[Trial] = []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_attempt, job) for job in jobs]):
            for trial in done.result():
                trials.append(trial)
                told(trial)
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


def _attempt(job: list[tuple[str, int]]) -> list[Trial]:
    return [attempt(name, seed) for name, seed in job]


def attempt(name: str, seed: int) -> Trial:
    """One attempt, from the beginning that the seed says."""
    task = find_task(name)
    world, oracle = World(SCENES[task.scene]), Oracle(task)
    world.reset(seed)
    for step in range(1, MAX_STEPS + 1):
        world.act(oracle.act(world))
        if is_done(task, world):
            return Trial(name, seed, True, step)
    return Trial(name, seed, False, MAX_STEPS)
