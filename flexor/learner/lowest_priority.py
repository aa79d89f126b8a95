"""The lowest priority: a learner beside a policy server gives way to it, for the processor and for memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NICEST = 19
FIRST_TO_GO = 1000  # proc(5), oom_score_adj: what the kernel kills first when memory runs out


def give_way() -> None:
    """Let every other process of this machine come before this one, as far as the system lets it."""
    os.setpriority(os.PRIO_PROCESS, 0, NICEST)
    with contextlib.suppress(OSError):  # not Linux, or a container that hides it; the first line is what counts
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_GO))
