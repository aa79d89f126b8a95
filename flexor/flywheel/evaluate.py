"""Success of a bundle in simulation: many lockstep episodes in worker processes, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from flexor.errors import FlexorError
from flexor.flywheel.counterfactual import JudgingRobot, Witness, counterfactual_jobs, original_summary
from flexor.flywheel.lockstep import Delay, Lockstep
from flexor.runtime.driving.score_monitor import calibration_id
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.metrics import wilson
from flexor.runtime.robot import Robot, RobotSpec
from flexor.runtime.serving.engine_thread import ServedPolicy
from flexor.runtime.worker_pool import Job, Result, WorkerPool
from flexor.sim.shift import NONE, Shift

EPISODE_TIMEOUT_S = 900.0


def open_policy(bundle: str) -> ServedPolicy:
    """The bundle in a torch engine with one thread, float32, on the CPU."""
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.policy import Policy

    opened = Bundle.open(bundle)
    return Policy(opened, open_engine(opened, engine="torch", precision="fp32", threads=1))


def open_simulation(sim: str, shift: Shift = NONE) -> Robot:
    """The simulated robot behind "sim:NAME", in the workplace of a shift; functools.partial gives it one."""
    from flexor.sim.robots import open_robot

    return open_robot(sim, shift=shift)


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
    counterfactual: bool = False,
    calibration: Calibration | None = None,
    skip: int = 0,
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
        counterfactual: each episode shows the scene of its task and asks for another that is possible in it
            (flexor.flywheel.counterfactual); success and rows are of the spoken task, "original" of the other one.
        calibration: of the scores, "lockstep" as these; None leaves them raw.
        skip: the first of the episodes are left out: what is played is a part of the whole, each episode as there.
        watch: told every finished episode's row, as it finishes.
        make_robot, make_policy: importable functions, called in each worker with `sim` and `bundle`.

    Returns:
        success_rate, episodes, successes, ci95 (Wilson), entropy_bits_mean, failure_labels (failures by leading label,
        docs/failures.md), seed, bundle, bundle_hash, sim, tasks (a row a task), rows (a row an episode), and the
        conditions that the robot names (flexor.runtime.robot.RobotSpec), such as "shift".

    Raises:
        FlexorError: no episodes, an unknown task, a bundle that does not fit, a worker that died.
    """
    if episodes < 1:
        raise FlexorError(f"{episodes} episodes; expected at least one")
    if not 0 <= skip < episodes:
        raise FlexorError(f"skip is {skip}; expected 0 to {episodes - 1}, so that of {episodes} episodes one is left")
    tasks, spec = _known_tasks(sim, tasks, make_robot)
    if calibration is not None:
        calibration.check_tasks(tasks)
    jobs: list[Job] = [
        {"episode": index, "task": tasks[index % len(tasks)], "seed": seed + index} for index in range(episodes)
    ]
    if counterfactual:
        jobs = counterfactual_jobs(tasks, spec.alternatives, episodes, seed)
    jobs = jobs[skip:]
    rows = []
    delay = delay or Delay()
    args = (
        bundle,
        sim,
        None if log_dir is None else str(log_dir),
        entropy,
        delay,
        counterfactual,
        calibration,
        make_robot,
        make_policy,
    )
    with WorkerPool(_player, args, min(workers, len(jobs)), EPISODE_TIMEOUT_S) as pool:
        for row in pool.results(jobs):
            rows.append(row)
            watch(row)
    rows.sort(key=lambda row: row["episode"])
    hashes = {row.pop("bundle_hash") for row in rows}
    if len(hashes) > 1:
        raise FlexorError(f"{bundle} changed while it was evaluated: its hashes were {', '.join(sorted(hashes))}")
    by_task = [
        {"task": task, **_summary([row for row in rows if row["task"] == task])} for task in dict.fromkeys(tasks)
    ]
    return {
        **_summary(rows),
        "seed": seed,
        "bundle": bundle,
        "bundle_hash": hashes.pop(),
        "sim": sim,
        "delay": asdict(delay),
        "calibration": calibration_id(calibration),
        **spec.conditions,
        "tasks": by_task,
        **({"original": original_summary(rows)} if counterfactual else {}),
        "rows": rows,
    }


def _known_tasks(sim: str, tasks: Sequence[str], make_robot: Callable[[str], Robot]) -> tuple[Sequence[str], RobotSpec]:
    robot = make_robot(sim)
    try:
        spec = robot.spec
    finally:
        robot.close()
    unknown = [task for task in tasks if task not in spec.tasks]
    if unknown:
        raise FlexorError(f"unknown tasks {', '.join(unknown)}; the tasks of {sim} are {', '.join(spec.tasks)}")
    return tasks or list(spec.tasks), spec


def _player(
    bundle: str,
    sim: str,
    log_dir: str | None,
    entropy: bool,
    delay: Delay,
    counterfactual: bool,
    calibration: Calibration | None,
    make_robot: Callable[[str], Robot],
    make_policy: Callable[[str], ServedPolicy],
) -> Callable[[Job], Result]:
    """In a worker: one robot and one policy for all its episodes."""
    policy, robot = make_policy(bundle), make_robot(sim)
    played = {"bundle_hash": policy.describe()["hash"]}
    witness = Witness(cast(JudgingRobot, robot)) if counterfactual else None
    recorder = None if log_dir is None else EpisodeRecorder(log_dir)
    lockstep = Lockstep(witness or robot, policy, recorder, entropy, delay, calibration)

    def play(job: Job) -> Result:
        if witness is None:
            return {"episode": job["episode"], **played, **asdict(lockstep.play(job["task"], job["seed"]))}
        witness.watch(job["original"])
        row = {
            "episode": job["episode"],
            "original": job["original"],
            **played,
            **asdict(lockstep.play(job["task"], job["seed"])),
        }
        return row | {"original_success": witness.original_solved}

    return play


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not rows:  # more tasks than episodes
        nothing: dict[str, Any] = {"success_rate": None, "episodes": 0, "successes": 0, "ci95": [None, None]}
        return nothing | {"entropy_bits_mean": None, "failure_labels": {}}
    successes = sum(row["success"] for row in rows)
    rate, low, high = wilson(successes, len(rows))
    bits = [row["entropy_bits_mean"] for row in rows if row["entropy_bits_mean"] is not None]
    return {
        "success_rate": rate,
        "episodes": len(rows),
        "successes": successes,
        "ci95": [low, high],
        "entropy_bits_mean": float(np.mean(bits)) if bits else None,
        "failure_labels": dict(Counter(row["failure_label"] for row in rows if row["failure_label"]).most_common()),
    }
