"""Success of a bundle in simulation: many lockstep episodes in worker processes, the same for the same seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flexor import __version__
from flexor.errors import FlexorError
from flexor.flywheel.counterfactual import counterfactual_jobs, original_summary
from flexor.flywheel.evaluation_worker import Setup, make_player
from flexor.flywheel.lockstep import Delay, Manner, PlayedPolicy
from flexor.flywheel.row_file import Row, RowFile, row_key
from flexor.flywheel.row_sources import row_sources_hash
from flexor.runtime.driving.score_monitor import calibration_id
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.metrics import wilson
from flexor.runtime.robot import Robot, RobotSpec
from flexor.runtime.worker_pool import Job, WorkerDied, WorkerPool
from flexor.sim.libero.protocol import LiberoSettings
from flexor.sim.shift import NONE, Shift

SILENCE_LIMIT_S = 900.0  # of a worker; one that plays is heard at each chunk
MAX_DEATHS = 3  # of workers in one evaluation; their episodes are played again


def open_policy(
    bundle: str, precision: str | None = None, flow_steps: int | None = None, noise_scale: float | None = None
) -> PlayedPolicy:
    """The bundle in the engine that fits it, one thread; functools.partial gives the rest, gates are not asked."""
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import open_engine
    from flexor.runtime.inference.policy import Policy

    opened = Bundle.open(bundle)
    engine = open_engine(opened, precision=precision, threads=1, flow_steps=flow_steps, force=True)
    return Policy(opened, engine, noise_scale)


def open_simulation(sim: str, shift: Shift = NONE, libero: LiberoSettings | None = None) -> Robot:
    """The simulated robot behind "sim:NAME", in the workplace of a shift; functools.partial gives it one."""
    from flexor.sim.robots import open_robot

    return open_robot(sim, shift=shift, libero=libero)


def evaluate(
    bundle: str,
    sim: str,
    tasks: Sequence[str],
    episodes: int,
    seed: int,
    workers: int,
    log_dir: Path | None = None,
    *,
    each: bool = False,
    entropy: bool = True,
    delay: Delay | None = None,
    manner: Manner | None = None,
    counterfactual: bool = False,
    calibration: Calibration | None = None,
    skip: int = 0,
    keep: Path | None = None,
    fresh: bool = False,
    watch: Callable[[Row], None] = lambda row: None,
    make_robot: Callable[[str], Robot] = open_simulation,
    make_policy: Callable[[str], PlayedPolicy] = open_policy,
    precision: str = "fp32",
    flow_steps: int | None = None,
    noise_scale: float | None = None,
) -> dict[str, Any]:
    """Play `episodes` episodes: episode i plays tasks[i % len(tasks)] with the seed `seed` + i.

    Args:
        bundle: folder, or name of a shipped bundle.
        sim: as open_robot takes it, e.g. "sim:tabletop".
        tasks: names; none at all means every task of the simulation.
        workers: processes; the result does not depend on how many.
        log_dir: where the episodes are recorded, all of them, those that are kept as well; None records none.
        each: `episodes` are those of each task: its trial k has the seed `seed` + k.
        entropy: whether chunks are scored (8 more samples each).
        delay: chunks come so many steps late, as they do in real time; none when None.
        manner: what a protocol says of replanning and limits; as the policy and the daemon have it when None.
        counterfactual: each episode shows the scene of its task and asks for another that is possible in it
            (flexor.flywheel.counterfactual); success and rows are of the spoken task, "original" of the other one.
        calibration: of the scores, "lockstep" as these; None leaves them raw.
        skip: the first of the episodes are left out: what is played is a part of the whole, each episode as there.
        keep: folder in which finished episodes are kept, in a file of their conditions, the code that decides them
            among these; those that are in it already are not played again. None keeps none.
        fresh: forget what was kept.
        watch: told every finished episode's row, as it finishes, and first those that were kept.
        make_robot, make_policy: importable functions, called in each worker with `sim` and `bundle`.
        precision: what make_policy's engine computes in, one of the conditions.
        flow_steps, noise_scale: those of make_policy, where they are not the bundle's own; further conditions.

    Returns:
        success_rate, episodes, successes, ci95 (Wilson), entropy_bits_mean, failure_labels (failures by leading label,
        docs/failures.md), faults (failures by a simulator that broke down), worker_deaths (what was played again),
        seed, bundle, bundle_hash, sim, tasks (a row a task; a counterfactual's a row a scene), rows (a row an episode),
        rows_file (where they are kept),
        and the conditions that the robot names (flexor.runtime.robot.RobotSpec), such as "shift".

    Raises:
        FlexorError: no episodes, an unknown task, a bundle that does not fit, workers that keep dying.
    """
    if episodes < 1:
        raise FlexorError(f"{episodes} episodes; expected at least one")
    if each and skip:
        raise FlexorError("episodes of each task cannot be skipped; give their number in all")
    if not 0 <= skip < episodes:
        raise FlexorError(f"skip is {skip}; expected 0 to {episodes - 1}, so that of {episodes} episodes one is left")
    tasks, spec = _known_tasks(sim, tasks, make_robot)
    if calibration is not None:
        calibration.check_tasks(tasks)
    if counterfactual:
        jobs = counterfactual_jobs(tasks, spec.alternatives, episodes, seed, each)
    else:
        jobs = _jobs(tasks, episodes, seed, each)
    logs = None if log_dir is None else str(log_dir)
    delay, manner = delay or Delay(), manner or Manner()
    setup = Setup(bundle, sim, make_robot, make_policy, logs, entropy, delay, counterfactual, calibration, manner)
    conditions = {
        "sim": sim,
        "delay": asdict(delay),
        "replan": manner.replan,
        "calibration": calibration_id(calibration),
        "precision": precision,
        "flow_steps": flow_steps,
        "noise_scale": noise_scale,
        **spec.conditions,
    }
    with ExitStack() as stack:
        kept: RowFile | None = None
        if keep is not None:
            playing = make_policy(bundle).describe()["hash"]
            code = {"flexor": __version__, "sources": row_sources_hash()}
            extent = {"entropy": entropy, "counterfactual": counterfactual, **code}
            kept = _rows_kept(keep, bundle, {"bundle_hash": playing, **extent, **conditions}, fresh)
            stack.enter_context(kept)
        rows, bundle_hash, deaths = _play(jobs[skip:], setup, workers, kept, watch)
    shown = "original" if counterfactual else "task"
    by_task = [{"task": task, **_summary([row for row in rows if row[shown] == task])} for task in dict.fromkeys(tasks)]
    return {
        **_summary(rows),
        "seed": seed,
        "bundle": bundle,
        "bundle_hash": bundle_hash,
        **conditions,
        "tasks": by_task,
        **({"original": original_summary(rows)} if counterfactual else {}),
        "faults": sum(row["fault"] is not None for row in rows),
        "worker_deaths": deaths,
        "rows": rows,
        "rows_file": None if kept is None else str(kept.path),
    }


def _play(
    jobs: Sequence[Job], setup: Setup, workers: int, kept: RowFile | None, watch: Callable[[Row], None]
) -> tuple[list[Row], str, list[str]]:
    """The rows of all jobs in their order, the hash of the bundle that played them, and how workers died meanwhile."""
    found = {} if kept is None else {row_key(row): row for row in kept.rows}
    done: dict[int, Row] = {}
    for job in jobs:
        if row_key(job) in found and setup.log_dir is None:  # a row has no frames: what is recorded has to be played
            done[job["episode"]] = {**found[row_key(job)], "episode": job["episode"]}
            watch(done[job["episode"]])
    hashes = {str(kept.conditions["bundle_hash"])} if kept is not None else set[str]()
    deaths: list[str] = []
    while left := [job for job in jobs if job["episode"] not in done]:
        try:
            with WorkerPool(make_player, (setup,), min(workers, len(left)), SILENCE_LIMIT_S) as pool:
                for row in pool.results(left, kind="original" if setup.counterfactual else "task"):
                    hashes.add(row.pop("bundle_hash"))
                    if len(hashes) > 1:
                        told = ", ".join(sorted(hashes))
                        raise FlexorError(f"{setup.bundle} changed while it was evaluated: its hashes were {told}")
                    done[row["episode"]] = row
                    if kept is not None and row_key(row) not in found:
                        kept.append(row)
                    watch(row)
        except WorkerDied as death:
            deaths.append(str(death))
            if len(deaths) > MAX_DEATHS:
                raise
    return [done[job["episode"]] for job in jobs], hashes.pop(), deaths


def _jobs(tasks: Sequence[str], episodes: int, seed: int, each: bool) -> list[Job]:
    if each:
        pairs = [(task, seed + trial) for task in tasks for trial in range(episodes)]
    else:
        pairs = [(tasks[index % len(tasks)], seed + index) for index in range(episodes)]
    return [{"episode": index, "task": task, "seed": seed} for index, (task, seed) in enumerate(pairs)]


def _rows_kept(folder: Path, bundle: str, conditions: Mapping[str, Any], fresh: bool) -> RowFile:
    """The file of an evaluation under these conditions: bundle and simulator by name, everything by its hash."""
    digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:12]
    name = re.sub(r"[^\w.-]+", "-", f"{conditions['sim'].removeprefix('sim:')}-{Path(bundle).name}-{digest}.jsonl")
    path = folder / name
    return RowFile(path, conditions, fresh)


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


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
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
