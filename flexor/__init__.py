"""flexor: serve a Pi0.5 policy on the robot, and keep teaching it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from flexor.runtime.inference.local_policy import LocalPolicy

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    bundle: str | Path,
    *,
    engine: str | None = None,
    precision: str | None = None,
    threads: int = 1,
    flow_steps: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> LocalPolicy:
    """Open a bundle in this process: no server, no socket.

    >>> import flexor
    >>> policy = flexor.load("pi05-nano")
    >>> action = policy.select_action({"images": images, "state": state, "prompt": "put the red block into the box"})

    Args:
        bundle: folder of a bundle, or the name of one that ships with flexor.
        engine, precision, threads, flow_steps: as `flexor serve` takes them; None means as the bundle has it.
        force: also in a precision that failed its gate, that this machine only emulates, or into too little memory.
        seed: of the noise that chunks begin with; the same seed and observations give the same actions.

    Returns:
        flexor.runtime.inference.local_policy.LocalPolicy, its first call as quick as the others.

    Raises:
        flexor.errors.FlexorError: no such bundle, a damaged one, or an engine that cannot run it here.
    """
    from flexor.runtime.inference.local_policy import LocalPolicy

    return LocalPolicy.open(bundle, engine, precision, threads, flow_steps, seed, force)
