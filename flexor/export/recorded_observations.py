"""Observations out of recorded episodes: what parity is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flexor.errors import FlexorError
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.observation import Observation

GOLDEN = 0.6180339887


def recorded_observations(folder: Path, cameras: Sequence[str], count: int) -> list[Observation]:
    """`count` observations, spread evenly over the episodes of a folder and over the time of each.

    Args:
        folder: what a recorder wrote; its episodes/*.mcap in the order of their names.
        cameras: that an observation has to have; others are left out.

    Raises:
        FlexorError: no episodes, or none whose frames are of these cameras.
    """
    files = sorted((folder / "episodes").glob("*.mcap"))
    if not files:
        raise FlexorError(f"{folder} has no episodes; record some: flexor collect --out {folder}")
    chosen = [files[k] for k in np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int))]
    found: list[Observation] = []
    for number, file in enumerate(chosen):
        episode = read_episode(file)
        seen = [set(episode.frames.get(camera, {})) for camera in cameras]
        steps = sorted(set.intersection(*seen).intersection(episode.steps.tolist()))
        if not steps:
            continue
        share = (number + 1) * count // len(chosen) - number * count // len(chosen)
        for place in _places(len(steps), share, number):
            step = steps[place]
            images = {camera: episode.frames[camera][step] for camera in cameras}
            state = episode.states[np.searchsorted(episode.steps, step)]
            found.append(Observation(images, state, episode.meta.prompt))
    if not found:
        raise FlexorError(f"no episode in {folder} has frames of {', '.join(cameras)}; use some of this robot's")
    return found


def _places(steps: int, share: int, number: int) -> Sequence[int]:
    """Which of an episode's steps: from the first to the last; of each episode one alone, another moment in each.

    Multiples of the golden ratio, less whole numbers, fill the time evenly, however many episodes there are.
    """
    if share == 1:
        return [int(steps * (number * GOLDEN % 1.0))]
    return np.unique(np.linspace(0, steps - 1, min(share, steps)).round().astype(int)).tolist()
