"""Episodes that a benchmark of the learner learns from: those that were named, or some that are recorded for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexor.cli.progress import Progress
    from flexor.sim.collect import Demonstration

SEED, WORKERS = 7000, 2


def episodes_to_learn(named: Path | None, folder: Path, count: int, progress: Progress) -> Path:
    """A folder of episodes: `named`, or without it `count` demonstrations on the tabletop, recorded below `folder`.

    Raises:
        FlexorError: they cannot be recorded.
    """
    if named is not None:
        return named
    from flexor.sim.collect import CollectSettings, collect

    recorded: list[Demonstration] = []

    def on_demonstration(demonstration: Demonstration, missing: int) -> None:
        recorded.append(demonstration)
        progress.update("recording", len(recorded), missing)

    collect(folder / "recorded", "sim:tabletop", count, SEED, WORKERS, CollectSettings(), on_demonstration)
    return folder / "recorded"
