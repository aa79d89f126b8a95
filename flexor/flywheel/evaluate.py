"""Success of a bundle in simulation: many lockstep episodes in worker processes, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flexor.errors import FlexorError
from flexor.flywheel.lockstep import Delay, Lockstep
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.metrics import wilson
from flexor.runtime.robot import Robot
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.runtime.worker_pool import Job, Result, WorkerPool

EPISODE_TIMEOUT_S = 900.0


def open_policy(bundle: str) -> ServedPolicy:
    """The bundle in a torch engine with one thread, float32, on the CPU."""
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.policy import Policy

    opened = Bundle.open(bundle)
    return Policy(opened, open_engine(opened, engine="torch", precision="fp32", threads=1))


def open_simulation(sim: str) -> Robot:
    """The simulated robot behind "sim:NAME"."""
    from flexor.sim.robots import open_robot

    return open_robot(sim)


def evaluate(
    bundle: str,
    sim: str,
    tasks: Sequence[str],
    episodes: int,
    seed: int,
    workers: int,
    log_dir: Path | None = None,
    *,
    entropy: bool = True,
    delay: Delay | None = None,
    watch: Callable[[dict[str, Any]], None] = lambda row: None,
    make_robot: Callable[[str], Robot] = open_simulation,
    make_policy: Callable[[str], ServedPolicy] = open_policy,
) -> dict[str, Any]:
    """Play `episodes` episodes: episode i plays tasks[i % len(tasks)] with the seed `seed` + i.

    Args:
        bundle: folder, or name of a shipped bundle.
        sim: as open_robot takes it, e.g. "sim:tabletop".
        tasks: names; none at all means every task of the simulation.
        workers: processes; the result does not depend on how many.
        log_dir: where the episodes are recorded; None records none.
        entropy: whether chunks are scored (8 more samples each).
        delay: chunks come so many steps late, as they do in real time; none when None.
        watch: told every finished episode's row, as it finishes.
        make_robot, make_policy: importable functions, called in each worker with `sim` and `bundle`.

    Returns:
        success_rate, episodes, successes, ci95 (Wilson), entropy_bits_mean, seed, bundle, sim, tasks (a row a task)
        and rows (a row an episode).

    Raises:
        FlexorError: no episodes, an unknown task, a bundle that does not fit, a worker that died.
    """
    if episodes < 1:
        raise FlexorError(f"{episodes} episodes; expected at least one")
    tasks = _known_tasks(sim, tasks, make_robot)
    jobs: list[Job] = [
        {"episode": index, "task": tasks[index % len(tasks)], "seed": seed + index} for index in range(episodes)
    ]
    rows = []
    delay = delay or Delay()
    args = (bundle, sim, None if log_dir is None else str(log_dir), entropy, delay, make_robot, make_policy)
    with WorkerPool(_player, args, min(workers, episodes), EPISODE_TIMEOUT_S) as pool:
        for row in pool.results(jobs):
            rows.append(row)
            watch(row)
    rows.sort(key=lambda row: row["episode"])
    by_task = [
        {"task": task, **_summary([row for row in rows if row["task"] == task])} for task in dict.fromkeys(tasks)
    ]
    return {
        **_summary(rows),
        "seed": seed,
        "bundle": bundle,
        "sim": sim,
        "delay": asdict(delay),
        "tasks": by_task,
        "rows": rows,
    }


def _known_tasks(sim: str, tasks: Sequence[str], make_robot: Callable[[str], Robot]) -> Sequence[str]:
    robot = make_robot(sim)
    try:
        known = list(robot.spec.tasks)
    finally:
        robot.close()
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise FlexorError(f"unknown tasks {', '.join(unknown)}; the tasks of {sim} are {', '.join(known)}")
    return tasks or known


def _player(
    bundle: str,
    sim: str,
    log_dir: str | None,
    entropy: bool,
    delay: Delay,
    make_robot: Callable[[str], Robot],
    make_policy: Callable[[str], ServedPolicy],
) -> Callable[[Job], Result]:
    """In a worker: one robot and one policy for all its episodes."""
    policy, robot = make_policy(bundle), make_robot(sim)
    lockstep = Lockstep(robot, policy, None if log_dir is None else EpisodeRecorder(log_dir), entropy, delay)

    def play(job: Job) -> Result:
        return {"episode": job["episode"], **asdict(lockstep.play(job["task"], job["seed"]))}

    return play


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not rows:  # more tasks than episodes
        return {"success_rate": None, "episodes": 0, "successes": 0, "ci95": [None, None], "entropy_bits_mean": None}
    successes = sum(row["success"] for row in rows)
    rate, low, high = wilson(successes, len(rows))
    bits = [row["entropy_bits_mean"] for row in rows if row["entropy_bits_mean"] is not None]
    return {
        "success_rate": rate,
        "episodes": len(rows),
        "successes": successes,
        "ci95": [low, high],
        "entropy_bits_mean": float(np.mean(bits)) if bits else None,
    }
