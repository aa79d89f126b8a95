"""Measures LIBERO's scripted expert: how often it succeeds itself, from the official initial states or from ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from flexor.runtime.worker_pool import Alive, Job, Result, WorkerPool
from flexor.sim.libero.alternatives import find_asked
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.protocol import OFFICIAL_STARTS, PROTOCOLS, Starts
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.starts import draw_start
from flexor.sim.libero.suites import find_suite, official_starts

ATTEMPT_LIMIT_S = 300.0
_STEPS = PROTOCOLS["openpi"].max_steps


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of the expert.

    Attributes:
        task: its name, or OTHER@TASK where another task was asked for in its scene.
        trial: number of the official initial state, or the seed of a start of ours.
        steps: control steps that were played, of those that the protocol gives.
        phase: what the expert was about at the end; where it failed, if it did.
    """

    task: str
    trial: int
    success: bool
    steps: int
    phase: str


def try_expert(
    suite: str,
    tasks: Sequence[str],
    trials: int,
    workers: int,
    told: Callable[[Attempt], None],
    first: int = 0,
    starts: Starts = "official",
) -> list[Attempt]:
    """`trials` attempts at each task, nothing rendered; `told` hears of each; sorted by task and trial.

    Args:
        tasks: names or numbers, or OTHER@TASK for another task in its scene; none at all means the whole suite.
        first: number of the first trial; official initial states come again after the last.

    Raises:
        SuiteError: no such suite, or no such task of it.
        StartError: no start of ours was found.
    """
    found = find_suite(suite)
    wanted = [find_asked(found, name) for name in tasks or [task.name for task in found.tasks]]
    jobs: list[Job] = [
        {"task": asked.name, "scene": asked.layout.name, "trial": first + k} for asked in wanted for k in range(trials)
    ]
    attempts: list[Attempt] = []
    with WorkerPool(_worker, (found.name, starts), workers, ATTEMPT_LIMIT_S) as pool:
        for row in pool.results(jobs, kind="scene"):
            attempts.append(Attempt(**row))
            told(attempts[-1])
    order = {asked.name: place for place, asked in enumerate(wanted)}
    return sorted(attempts, key=lambda attempt: (order[attempt.task], attempt.trial))


def attempt(stage: Stage, trial: int, starts: Starts = "official") -> Attempt:
    """One attempt at what a stage is asked for, as the benchmark plays and judges an episode."""
    task = stage.task
    if starts == "official":
        number = trial % OFFICIAL_STARTS
        stage.reset(official_starts(task)[number], stage.official_fixtures(number))
    else:
        start = draw_start(stage, trial)
        stage.reset(start.state, start.fixtures)
    stage.wait()
    expert, limit = Expert(stage), _STEPS[task.suite]
    for step in range(1, limit + 1):
        stage.act(expert.act())
        if stage.is_done():
            return Attempt(task.name, trial, True, step, expert.phase)
    return Attempt(task.name, trial, False, limit, expert.phase)


def _worker(suite: str, starts: Starts) -> Callable[[Job, Alive], Result]:
    """In a worker: the stage of the task at hand, built anew when the next job is of another."""
    held: dict[str, Stage] = {}

    def work(job: Job, alive: Alive) -> Result:
        asked = find_asked(find_suite(suite), job["task"])
        scene = asked.layout
        if scene.name not in held:
            for stage in held.values():
                stage.env.close()
            held.clear()
            held[scene.name] = Stage(scene)
        stage = held[scene.name]
        if asked.other is None:
            stage.ask()
        else:
            stage.ask(asked.other.goal, asked.other.sentence)
        return asdict(replace(attempt(stage, job["trial"], starts), task=asked.name))

    return work
