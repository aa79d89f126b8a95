"""Measures LIBERO's scripted expert: how often it succeeds itself, from the official initial states or from ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from flexor.runtime.worker_pool import Job, Result, WorkerPool
from flexor.sim.libero.oracle.expert import Expert
from flexor.sim.libero.protocol import OFFICIAL_STARTS, PROTOCOLS, Starts
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.starts import draw_start
from flexor.sim.libero.suites import SuiteTask, find_suite, official_starts

ATTEMPT_LIMIT_S = 300.0
_STEPS = PROTOCOLS["openpi"].max_steps


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of the expert.

    Attributes:
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
        tasks: names or numbers; none at all means the whole suite.
        first: number of the first trial; official initial states come again after the last.

    Raises:
        SuiteError: no such suite, or no such task of it.
        StartError: no start of ours was found.
    """
    found = find_suite(suite)
    wanted = [found.find(name) for name in tasks] or list(found.tasks)
    jobs: list[Job] = [{"task": task.name, "trial": first + k} for task in wanted for k in range(trials)]
    attempts: list[Attempt] = []
    with WorkerPool(_worker, (found.name, starts), workers, ATTEMPT_LIMIT_S) as pool:
        for row in pool.results(jobs):
            attempts.append(Attempt(**row))
            told(attempts[-1])
    order = {task.name: place for place, task in enumerate(wanted)}
    return sorted(attempts, key=lambda attempt: (order[attempt.task], attempt.trial))


def attempt(stage: Stage, trial: int, starts: Starts = "official") -> Attempt:
    """One attempt at a stage's own task, as the benchmark plays and judges an episode."""
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


def _worker(suite: str, starts: Starts) -> Callable[[Job], Result]:
    """In a worker: the stage of the task at hand, built anew when the next job is of another."""
    held: dict[str, Stage] = {}

    def work(job: Job) -> Result:
        task: SuiteTask = find_suite(suite).find(job["task"])
        if task.name not in held:
            for stage in held.values():
                stage.env.close()
            held.clear()
            held[task.name] = Stage(task)
        return asdict(attempt(held[task.name], job["trial"], starts))

    return work
