"""Row sources: the code that decides what a row of an evaluation says, by its hash."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import flexor

DECIDING = (
    "pi05/**/*.py",
    "runtime/inference/**/*.py",
    "runtime/driving/guard.py",
    "runtime/driving/player.py",
    "runtime/driving/score_monitor.py",
    "sim/**/*.py",
    "flywheel/counterfactual.py",
    "flywheel/evaluation_worker.py",
    "flywheel/lockstep.py",
)
"""Model, simulation, and what an episode goes through between them."""


@functools.cache
def row_sources_hash() -> str:
    """Of flexor as it runs here, 12 hexadecimal digits; found once a process."""
    return sources_hash(Path(flexor.__file__).parent)


def sources_hash(package: Path) -> str:
    """The first 12 hexadecimal digits of the SHA-256 over paths and bytes of all deciding files of a package."""
    digest = hashlib.sha256()
    for path in sorted({path.relative_to(package) for pattern in DECIDING for path in package.glob(pattern)}):
        content = (package / path).read_bytes()
        digest.update(f"{path.as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]
