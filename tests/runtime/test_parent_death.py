"""A child that was told to end with its parent does so, however the parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

PARENT = """
import subprocess, sys, time
from flexor.runtime.parent_death import end_with_parent
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], preexec_fn=end_with_parent())
print(child.pid, flush=True)
time.sleep(100)
"""


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_child_ends_when_its_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert lives(child)
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60.0
    while lives(child):
        assert time.monotonic() < until, f"child {child} outlives its parent"
        time.sleep(0.02)
