"""What worker processes do in tests; importable by name in any process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from flexor.runtime.worker_pool import Alive, Job, Result


def make_squarer(offset: int) -> Callable[[Job, Alive], Result]:
    def square(job: Job, alive: Alive) -> Result:
        while "after" in job and not Path(job["after"]).exists():
            time.sleep(0.05)
        if job.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.get("sleep"):
            time.sleep(60.0)
        for _ in range(job.get("breaths", 0)):
            time.sleep(0.5)
            alive()
        if "hold" in job:
            mark = Path(job["hold"])
            mark.write_text("held")
            try:
                time.sleep(60.0)
            finally:
                mark.write_text("closed")
        return {"square": job["number"] ** 2 + offset, "pid": os.getpid()}

    return square
