"""Worker processes that take jobs one at a time and never outlive the process that made them."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.child_process import await_end

Job = dict[str, Any]
Result = dict[str, Any]
Alive = Callable[[], None]
"""Says from the middle of a job that it goes on."""
POLL_S = 1.0
STOP_S = 5.0


class WorkerDied(FlexorError):
    """A worker process ended in the middle of a job: it was killed, or crashed."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None
    heard: float = 0.0  # when it was last given something, or said something
    kind: object = None  # of its last job


class WorkerPool:
    """Processes started by spawn, each with what `make` builds in it.

    Jobs and results travel as JSON. A worker ends by itself when its parent is gone, whatever ended that.
    """

    def __init__(
        self, make: Callable[..., Callable[[Job, Alive], Result]], args: Sequence[Any], workers: int, timeout_s: float
    ):
        """
        Args:
            make: importable by name; called with `args` once in each worker, returns what does one job.
            timeout_s: a worker may be silent for so long. A job that takes longer says now and then that it goes on,
                by the second thing that it is called with; one that does not, and building what does it, have to be
                done by then.
        """
        if workers < 1:
            raise FlexorError(f"workers is {workers}; expected 1 or more")
        self._make, self._args, self._count, self._timeout_s = make, tuple(args), workers, timeout_s
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        context = get_context("spawn")
        try:
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, self._make, self._args), daemon=True)
                process.start()
                theirs.close()
                self._workers.append(_Worker(process, ours))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def results(self, jobs: Sequence[Job], kind: str | None = None) -> Iterator[Result]:
        """Do every job; results come as they are done, not in order.

        Args:
            kind: a key of the jobs; a worker keeps to one value of it for as long as there are jobs of it, which
                saves it from building again what jobs of a kind share.

        Raises:
            WorkerDied: a worker was killed, or crashed.
            FlexorError: what a job raised, or that a worker was silent for too long.
            RuntimeError: any other exception of a job, with its traceback.
        """
        left, done = deque(jobs), 0
        for worker in self._workers:
            self._give(worker, left, kind)
        while done < len(jobs):
            busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
            for pipe in wait(list(busy), POLL_S):
                worker = busy[pipe]  # type: ignore[index]
                result = self._take(worker)
                if result is None:
                    continue
                done += 1
                self._give(worker, left, kind)
                yield result
            for worker in busy.values():
                if worker.job is not None and time.monotonic() - worker.heard > self._timeout_s:
                    raise FlexorError(
                        f"a worker has said nothing for {self._timeout_s:g} s, busy with {worker.job}: it hangs, or "
                        "has to wait for a machine that is too busy; stop what else runs there, or use fewer --workers"
                    )

    def _give(self, worker: _Worker, left: deque[Job], kind: str | None) -> None:
        worker.job = self._next(worker, left, kind)
        worker.heard = time.monotonic()
        if worker.job is not None:
            try:
                worker.pipe.send_bytes(json.dumps(worker.job).encode())
            except (BrokenPipeError, ConnectionResetError):
                raise self._death(worker) from None

    def _next(self, worker: _Worker, left: deque[Job], kind: str | None) -> Job | None:
        """The first job of the worker's own kind, else of one that nobody is at, else of any."""
        if not left or kind is None:
            return left.popleft() if left else None
        taken = {other.kind for other in self._workers if other is not worker}
        own = (place for place, job in enumerate(left) if job[kind] == worker.kind)
        free = (place for place, job in enumerate(left) if job[kind] not in taken)
        place = next(own, next(free, 0))
        job = left[place]
        del left[place]
        worker.kind = job[kind]
        return job

    def _take(self, worker: _Worker) -> Result | None:
        """What a worker answers; None when it only says that it goes on."""
        try:
            kind, value = json.loads(worker.pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise self._death(worker) from None
        worker.heard = time.monotonic()
        if kind == "alive":
            return None
        if kind == "refused":
            raise FlexorError(value)
        if kind == "failed":
            raise RuntimeError(f"{worker.job} failed in a worker:\n{value}")
        return value

    def _death(self, worker: _Worker) -> WorkerDied:
        worker.process.join(STOP_S)
        return WorkerDied(
            f"a worker died (exit code {worker.process.exitcode}) at {worker.job}; -9 often means that memory ran out: "
            "use fewer --workers"
        )

    def _stop(self) -> None:
        for worker in self._workers:
            worker.pipe.close()  # an idle worker ends by that
            if worker.job is not None:
                worker.process.terminate()
        await_end(*(worker.process for worker in self._workers), patience_s=STOP_S)
        self._workers.clear()


def _leave(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that what the job holds is closed: an open episode ends as an abort."""
    raise SystemExit(128 + number)


def _serve(pipe: Connection, make: Callable[..., Callable[[Job, Alive], Result]], args: tuple[Any, ...]) -> None:
    """The life of a worker: jobs from the pipe until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    signal.signal(signal.SIGTERM, _leave)
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    work: Callable[[Job, Alive], Result] | None = None

    def say(*answer: Any) -> None:
        pipe.send_bytes(json.dumps(answer).encode())

    try:
        while True:
            job = json.loads(pipe.recv_bytes())
            try:
                work = work or make(*args)
                answer: tuple[str, Any] = ("done", work(job, lambda: say("alive", None)))
            except FlexorError as error:
                answer = ("refused", str(error))
            except Exception:  # reported with its traceback by the parent, which raises it
                answer = ("failed", traceback.format_exc())
            say(*answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    finally:
        # What was made goes while Python is whole: a renderer that is freed at the very end complains.
        work = None
        gc.collect()
