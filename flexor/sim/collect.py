"""Records the oracle's demonstrations as episodes, in several worker processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.worker_pool import Job, Result, WorkerPool
from flexor.sim.disturbance import Disturbance, DisturbanceSettings
from flexor.sim.oracle import Oracle
from flexor.sim.robots import TabletopRobot
from flexor.sim.sentences import all_splits
from flexor.sim.tasks import TASKS

SENTENCES_FILE = "sentences.json"
JUDGED = ("success", "failure")  # outcomes of recordings that came to their end
EPISODE_LIMIT_S = 300.0


class CollectSettings(BaseModel):
    """What a recording of demonstrations looks like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frame_every: int = Field(default=2, ge=1, description="cameras are recorded at every n-th control step")
    linger_steps: int = Field(default=8, ge=0, description="control steps recorded after success")
    image_size: int = Field(default=128, ge=32, description="pixels a side of both cameras")
    images: str = Field(default="jpeg", pattern="^(jpeg|png)$", description="how frames are stored")
    disturbance: DisturbanceSettings = DisturbanceSettings()


@dataclass(frozen=True, slots=True)
class Demonstration:
    """How one recording ended."""

    seed: int
    task: str
    success: bool
    steps: int


def task_of(seed: int) -> str:
    """Tasks take turns by seed."""
    return tuple(TASKS)[seed % len(TASKS)]


def collect(
    out: Path,
    episodes: int,
    seed: int,
    workers: int,
    settings: CollectSettings,
    told: Callable[[Demonstration, int], None],
) -> None:
    """Record the seeds seed .. seed + episodes - 1 that `out` does not hold yet, or only as a broken-off recording.

    Args:
        out: folder of episodes (flexor.runtime.episodes.recorder), with sentences.json beside them.
        workers: processes; each has its own simulator and OpenGL context.
        told: hears of each demonstration, and how many there will be in all.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / SENTENCES_FILE).write_text(json.dumps(all_splits(), indent=1) + "\n")
    recorded = {int(row.seed) for row in EpisodeIndex(out).episodes() if row.outcome in JUDGED}
    missing = [s for s in range(seed, seed + episodes) if s not in recorded]
    with WorkerPool(_worker, (out, settings), workers, EPISODE_LIMIT_S) as pool:
        for row in pool.results([{"seed": s} for s in missing]):
            told(Demonstration(**row), len(missing))


def _worker(out: Path, settings: CollectSettings) -> Callable[[Job], Result]:
    """In a worker: one robot, and so one OpenGL context, for all its episodes."""
    robot = TabletopRobot(settings.image_size)

    def record(job: Job) -> Result:
        with EpisodeRecorder(out, images=settings.images) as recorder:
            return asdict(record_demonstration(robot, recorder, job["seed"], settings))

    return record


def record_demonstration(
    robot: TabletopRobot, recorder: EpisodeRecorder, seed: int, settings: CollectSettings
) -> Demonstration:
    """Record one episode: played actions disturbed, labels the expert's own."""
    task = task_of(seed)
    spec = robot.spec
    robot.reset(seed, task)
    recorder.begin(
        EpisodeMeta(
            robot=spec.name,
            task=task,
            prompt=spec.tasks[task],
            seed=seed,
            bundle="oracle",
            adapter="base",
            hz=spec.hz,
            cameras=tuple(spec.cameras),
        )
    )
    oracle = Oracle(TASKS[task])
    disturbance = Disturbance(settings.disturbance, np.random.default_rng([seed, 1]))
    step, success, left = 0, False, settings.linger_steps
    while step < spec.max_steps and left >= 0:
        label = oracle.act(robot.world)
        played = label if success else disturbance.apply(step, label)
        if step % settings.frame_every == 0:
            recorder.frames(step, robot.observe().images)
        recorder.step(step, robot.state(), played, label=label)
        success = bool(robot.act(played).success)
        left = left - 1 if success else settings.linger_steps
        step += 1
    recorder.end("success" if success else "failure", None, "sim")
    return Demonstration(seed=seed, task=task, success=success, steps=step)
