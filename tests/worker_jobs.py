"""What worker processes do in tests; importable by name in any process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from flexor.runtime.worker_pool import Job, Result


def make_squarer(offset: int) -> Callable[[Job], Result]:
    def square(job: Job) -> Result:
        if job.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.get("sleep"):
            time.sleep(60.0)
        return {"square": job["number"] ** 2 + offset, "pid": os.getpid()}

    return square
