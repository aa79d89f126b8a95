"""A child ends with its parent, however that ends; and when it is asked to, or else it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from flexor.runtime.child_process import await_end, end

PATIENCE_S = 60.0
IMPATIENT_S = 0.5  # for those that would never end

PARENT = """
import subprocess, sys, time
from flexor.runtime.child_process import end_with_parent
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], preexec_fn=end_with_parent())
print(child.pid, flush=True)
time.sleep(100)
"""
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(flush=True)
time.sleep(100)
"""
DEAF = POLITE.replace("lambda *_: sys.exit(7)", "signal.SIG_IGN")
# Ends well only when the other is asked, too, before this one is waited for.
COMPANION = """
import os, signal, sys, time
mine, others = sys.argv[1:]
def leave(number, frame):
    open(mine, "w").close()
    while not os.path.exists(others):
        time.sleep(0.01)
    sys.exit(7)
signal.signal(signal.SIGTERM, leave)
print(flush=True)
time.sleep(100)
"""
# Starts another one as itself, and says who that is in the line that it says when both are ready.
WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, end="")
exec(sys.argv[1])
"""


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while lives(pid):
        assert time.monotonic() < until, f"process {pid} lives on"
        time.sleep(0.02)


@contextmanager
def started(program: str, *arguments: str, own_group: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    """A child that has said its first line, and that line; killed at the end."""
    command = [sys.executable, "-c", program, *arguments]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=own_group)
    try:
        assert child.stdout is not None
        yield child, child.stdout.readline()
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE_S)


def test_a_child_ends_when_its_parent_is_killed():
    with started(PARENT) as (parent, line):
        child = int(line)
        assert lives(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE_S)
        wait_until_gone(child)


def test_a_child_that_is_asked_ends_in_its_own_way():
    with started(POLITE) as (child, _):
        end(child, patience_s=PATIENCE_S)
        assert child.returncode == 7
        end(child, patience_s=PATIENCE_S)  # one that has ended is left alone


def test_a_child_that_does_not_listen_is_killed():
    with started(DEAF) as (child, _):
        end(child, patience_s=IMPATIENT_S)
        assert child.returncode == -signal.SIGKILL


def test_all_are_asked_before_any_is_waited_for(tmp_path: Path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    with started(COMPANION, one, two) as (first, _), started(COMPANION, two, one) as (second, _):
        end(first, second, patience_s=PATIENCE_S)
        assert (first.returncode, second.returncode) == (7, 7)


@pytest.mark.parametrize(("program", "code"), [(POLITE, 7), (DEAF, -signal.SIGKILL)], ids=["asked", "killed"])
def test_a_child_with_a_group_of_its_own_ends_with_all_of_it(program: str, code: int):
    with started(WITH_CHILD, program, own_group=True) as (leader, line):
        end(leader, patience_s=PATIENCE_S if code == 7 else IMPATIENT_S)
        assert leader.returncode == code
        wait_until_gone(int(line))


def test_a_child_in_our_group_ends_alone():
    with started(POLITE) as (neighbour, _), started(DEAF) as (child, _):
        end(child, patience_s=IMPATIENT_S)
        assert child.returncode == -signal.SIGKILL
        assert neighbour.poll() is None


def test_a_child_that_was_asked_in_another_way_gets_its_time():
    with started("import sys\nprint(flush=True)\nsys.stdin.read()\nsys.exit(7)") as (child, _):
        assert child.stdin is not None
        child.stdin.close()
        await_end(child, patience_s=PATIENCE_S)
        assert child.returncode == 7
        child.stdin = None


def test_a_process_of_multiprocessing_is_a_child_too():
    child = get_context("spawn").Process(target=time.sleep, args=(100.0,), daemon=True)
    child.start()
    end(child, patience_s=PATIENCE_S)
    assert child.exitcode == -signal.SIGTERM
