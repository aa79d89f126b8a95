"""Records a scripted expert's demonstrations as episodes, in several worker processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError, EpisodeMeta
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.robot import RobotFault
from flexor.runtime.worker_pool import Alive, Job, Result, WorkerPool
from flexor.sim.demonstrator import Demonstrator, alternatives_of, open_demonstrator, sentences_of
from flexor.sim.disturbance import Disturbance, DisturbanceSettings
from flexor.sim.pilot import Pilot, PilotSettings
from flexor.sim.shift import NONE, Shift

SENTENCES_FILE = "sentences.json"
JUDGED = ("success", "failure")  # outcomes of recordings that came to their end
SILENCE_LIMIT_S = 300.0


class CollectSettings(BaseModel):
    """What a recording of demonstrations looks like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frame_every: int = Field(default=2, ge=1, description="cameras are recorded at every n-th control step")
    linger_steps: int = Field(default=8, ge=0, description="control steps recorded after success")
    image_size: int = Field(default=128, ge=32, description="pixels a side of both cameras")
    images: str = Field(default="jpeg", pattern="^(jpeg|png)$", description="how frames are stored")
    disturbance: DisturbanceSettings = DisturbanceSettings()
    pilot: PilotSettings = PilotSettings()


@dataclass(frozen=True, slots=True)
class Demonstration:
    """How one recording ended; a fault is why the simulation broke down, or could not begin: then it has failed."""

    seed: int
    task: str
    success: bool
    steps: int
    fault: str | None = None


def collect(
    out: Path,
    sim: str,
    episodes: int,
    seed: int,
    workers: int,
    settings: CollectSettings,
    told: Callable[[Demonstration, int], None],
    shift: Shift = NONE,
    tasks: Sequence[str] = (),
    counterfactual: bool = False,
) -> None:
    """Record what of `episodes` demonstrations `out` does not hold yet, or only as a broken-off recording.

    Demonstration i is of the seed `seed` + i; the tasks take turns. One in which the simulation breaks down is held as
    a failure, for it would do so again.

    Args:
        out: folder of episodes (flexor.runtime.episodes.recorder), with sentences.json beside them; it may hold
            those of other simulations already.
        sim: robot as open_robot takes it, e.g. "sim:tabletop".
        workers: processes; each has its own simulator and OpenGL context.
        told: hears of each demonstration, and how many there will be in all.
        shift: the workplace that is recorded in.
        tasks: names; none at all means every task.
        counterfactual: in the scene of each of these, the others that can be asked for there, in their place.

    Raises:
        EpisodeError: a task that there is not, or that has no other, or `out` holds demonstrations of another shift.
    """
    sentences = sentences_of(sim)
    unknown = [name for name in tasks if name not in sentences]
    if unknown:
        raise EpisodeError(f"unknown tasks {', '.join(unknown)}; the tasks of {sim} are {', '.join(sentences)}")
    out.mkdir(parents=True, exist_ok=True)
    _add_sentences(out / SENTENCES_FILE, sentences)
    rows = [row for row in EpisodeIndex(out).episodes() if row.outcome in JUDGED]
    if rows:
        _check_shift(out, rows[0].file, shift)
    recorded = {(row.task, int(row.seed)) for row in rows}
    names = _asked(sim, tasks, counterfactual)
    wanted = [(names[i % len(names)], seed + i) for i in range(episodes)]
    missing = [job for job in wanted if job not in recorded]
    with WorkerPool(_worker, (out, sim, settings, shift), workers, SILENCE_LIMIT_S) as pool:
        jobs = [{"task": task, "seed": s, "scene": task.rpartition("@")[2]} for task, s in missing]
        for row in pool.results(jobs, kind="scene"):
            told(Demonstration(**row), len(missing))


def _asked(sim: str, tasks: Sequence[str], counterfactual: bool) -> list[str]:
    """What is asked for in turn: the tasks, or what else there is in the scene of each."""
    others = alternatives_of(sim)
    names = list(tasks or others)
    if not counterfactual:
        return names
    lonely = [name for name in names if not others.get(name)]
    if lonely:
        raise EpisodeError(f"nothing else can be asked for in the scene of {', '.join(lonely)}; leave them out")
    return [other for name in names for other in others[name]]


def _add_sentences(path: Path, sentences: dict[str, dict[str, list[str]]]) -> None:
    held = json.loads(path.read_text()) if path.exists() else {}
    draft = path.with_suffix(f".{os.getpid()}.part")  # two may begin on one folder at once
    draft.write_text(json.dumps({**held, **sentences}, indent=1) + "\n")
    draft.replace(path)


def _check_shift(out: Path, file: str, shift: Shift) -> None:
    held = read_episode(out / file).meta.extra.get("shift", NONE.to_dict())  # those of old do not say it
    alike = held["level"] == shift.level == "none" or held == shift.to_dict()
    if not alike:
        raise EpisodeError(
            f"{out} holds demonstrations of shift {held}, not of {shift.to_dict()}; record into a folder of their own"
        )


def _worker(out: Path, sim: str, settings: CollectSettings, shift: Shift) -> Callable[[Job, Alive], Result]:
    """In a worker: one robot for all its episodes."""
    robot = open_demonstrator(sim, settings.image_size, shift)
    pilot = Pilot.open(settings.pilot)

    def record(job: Job, alive: Alive) -> Result:
        with EpisodeRecorder(out, images=settings.images) as recorder:
            return asdict(record_demonstration(robot, recorder, job["task"], job["seed"], settings, pilot, alive))

    return record


def record_demonstration(
    robot: Demonstrator,
    recorder: EpisodeRecorder,
    task: str,
    seed: int,
    settings: CollectSettings,
    pilot: Pilot | None = None,
    alive: Alive = lambda: None,
) -> Demonstration:
    """Record one episode: what is played is disturbed, or the pilot's; the labels are the expert's own.

    A simulation that breaks down, before the first step or later, ends it as a failure with the event `robot.fault`.

    Args:
        alive: called whenever the cameras were recorded.
    """
    spec = robot.spec
    fault, prompt = None, None
    try:
        prompt = robot.reset(seed, task).prompt
    except RobotFault as error:
        fault = str(error)
    recorder.begin(
        EpisodeMeta(
            robot=spec.name,
            task=task,
            prompt=prompt or spec.tasks.get(task, task),
            seed=seed,
            bundle="oracle",
            adapter="base",
            hz=spec.hz,
            cameras=tuple(spec.cameras),
            extra=spec.conditions if pilot is None else {**spec.conditions, "pilot": pilot.name},
        )
    )
    if fault is not None:
        return _broken_down(recorder, Demonstration(seed, task, False, 0, fault), 0)
    expert = robot.expert()
    disturbance = Disturbance(settings.disturbance, np.random.default_rng([seed, 1]))
    if pilot is not None:
        pilot.begin(np.random.default_rng([seed, 2]))
    step, success, left = 0, False, settings.linger_steps
    while step < spec.max_steps and left >= 0:
        label, look = expert(), cache(robot.observe)
        if step % settings.frame_every == 0:
            recorder.frames(step, look().images)
            alive()
        if success:
            played = label
        elif pilot is not None and pilot.drives():
            played = pilot.act(look)
        else:
            played = disturbance.apply(step, label)
        recorder.step(step, robot.state(), played, label=label)
        try:
            success = bool(robot.act(played).success)
        except RobotFault as error:
            return _broken_down(recorder, Demonstration(seed, task, False, step + 1, str(error)), step)
        left = left - 1 if success else settings.linger_steps
        step += 1
    recorder.end("success" if success else "failure", None, "sim")
    return Demonstration(seed=seed, task=task, success=success, steps=step)


def _broken_down(recorder: EpisodeRecorder, demonstration: Demonstration, step: int) -> Demonstration:
    recorder.event(step, "robot.fault", {"reason": demonstration.fault})
    recorder.end("failure", None, "sim")
    return demonstration
