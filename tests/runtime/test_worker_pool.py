"""WorkerPool: every job once, clear ends, and no process left behind."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import worker_jobs
from worker_jobs import make_squarer

from flexor.errors import FlexorError
from flexor.runtime.worker_pool import WorkerPool

pool = functools.partial(WorkerPool, make_squarer, (1,))


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_job_is_done_once_and_the_workers_end_with_the_pool():
    with pool(2, 60.0) as workers:
        results = list(workers.results([{"number": number} for number in range(9)]))
    assert sorted(result["square"] for result in results) == [number**2 + 1 for number in range(9)]
    assert not any(alive(pid) for pid in {result["pid"] for result in results})


def test_a_worker_keeps_to_a_kind_of_job_for_as_long_as_there_is_one():
    jobs = [{"number": number, "kind": "even" if number % 2 == 0 else "odd"} for number in range(40)]
    with pool(2, 60.0) as workers:
        results = list(workers.results(jobs, kind="kind"))
    done: dict[int, list[int]] = {}
    for result in results:
        done.setdefault(result["pid"], []).append(result["square"] % 2)
    for kinds in done.values():
        changes = sum(before != after for before, after in itertools.pairwise(kinds))
        assert changes <= 1, kinds  # once its own kind is finished it helps with the other
    assert len(results) == 40


def test_a_worker_that_is_killed_is_an_error_that_names_its_job():
    with pool(2, 60.0) as workers, pytest.raises(FlexorError, match=r"exit code -9.*'number': 3"):
        list(workers.results([{"number": 1}, {"number": 2}, {"number": 3, "die": True}]))


def test_a_job_that_is_silent_for_too_long_is_an_error_in_time_and_its_worker_is_ended():
    with pool(1, 3.0) as workers, pytest.raises(FlexorError, match=r"nothing for 3 s, busy with .*'number': 1.*fewer"):
        list(workers.results([{"number": 1, "sleep": True}]))


@pytest.mark.slow
def test_a_job_that_says_that_it_goes_on_may_take_as_long_as_it_likes():
    with pool(1, 60.0) as workers:
        list(workers.results([{"number": 1}]))  # the process has started, however long that took
        workers._timeout_s = 6.0
        (result,) = workers.results([{"number": 4, "breaths": 16}])  # 8 s
    assert result["square"] == 17


def test_a_worker_that_is_ended_in_the_middle_of_a_job_closes_what_the_job_holds(tmp_path):
    mark = tmp_path / "mark"
    jobs = [{"number": 1, "hold": str(mark)}, {"number": 2, "after": str(mark), "die": True}]
    with pool(2, 60.0) as workers, pytest.raises(FlexorError, match="exit code -9"):
        list(workers.results(jobs))
    assert mark.read_text() == "closed"


def test_no_workers_are_refused():
    with pytest.raises(FlexorError, match="workers is 0"):
        pool(0, 1.0)


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(
        "import os, sys, time\n"
        f"sys.path.append({str(Path(worker_jobs.__file__).parent)!r})\n"
        "from flexor.runtime.worker_pool import WorkerPool\n"
        "from worker_jobs import make_squarer\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(make_squarer, (1,), 2, 60.0) as workers:\n"
        "        for result in workers.results([{'number': n} for n in range(20)]):\n"
        "            print(result['pid'], flush=True)\n"
        "        print('done', flush=True)\n"
        "        time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pids = set()
        for line in parent.stdout:
            if line == "done\n":
                break
            pids.add(int(line))
        assert pids
        parent.kill()
        parent.wait(10)
        wait_until(lambda: not any(alive(pid) for pid in pids))
