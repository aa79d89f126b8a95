"""Processes that wait for each other and then begin together, for tests of what they share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_at_once(script: str, root: Path, *names: str) -> list[int]:
    """Exit codes of one process for each name; all wait for the slowest to be ready, then begin together."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(root), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    for child in children:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
    return [child.returncode for child in children]
