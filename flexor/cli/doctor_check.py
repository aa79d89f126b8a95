"""Check: one thing that `flexor doctor` looked at, and how it tries something without coming to harm itself."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

PROBE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found, and the way out where it is missing."""

    name: str
    ok: bool
    found: str
    needed: bool = True
    way_out: str = ""

    @property
    def state(self) -> str:
        """ok, missing, or absent (missing, but nothing needs it)."""
        return "ok" if self.ok else "missing" if self.needed else "absent"


def probe(name: str, program: str, way_out: str, needed: bool = True) -> Check:
    """Try something in a process of its own, so that a crash in a driver is a finding and not our end.

    Args:
        program: Python; the last line that it prints is JSON, {"ok": bool, "found": str}.
        way_out: told where it is not ok.
    """
    try:
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Check(name, False, f"no answer within {PROBE_TIMEOUT_S:g} s", needed, way_out)
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        return Check(name, False, last, needed, way_out)
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return Check(name, bool(answer["ok"]), str(answer["found"]), needed, way_out)
