"""PlanTrace: which chunk each step of a recorded episode was played from, and how far into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.episode_schema import ENTROPY_EVENT
from flexor.runtime.inference.calibration import PRIMARY

NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class PlanTrace:
    """One episode of T steps, row by row.

    Attributes:
        chunk: int64 [T], index into Episode.chunks; -1 where no chunk had an action, or somebody intervened.
        row: int64 [T], which of its actions it was; -1 where there is no chunk.
        executed: int64 [T], how many steps of the episode were played from that chunk; 0 where there is none.
        accel, bits, calibrated: float32 [T], scores of that chunk: accel, ACE in bits, and the calibrated primary score
            (docs/entropy.md); NaN where there is none.
    """

    chunk: NDArray[np.int64]
    row: NDArray[np.int64]
    executed: NDArray[np.int64]
    accel: NDArray[np.float32]
    bits: NDArray[np.float32]
    calibrated: NDArray[np.float32]

    @classmethod
    def of(cls, episode: Episode) -> PlanTrace:
        """As `flexor.runtime.driving.player` played it: a newer chunk takes over when it comes, a late one never."""
        chunk = _playing(episode)
        anchors = np.array([recorded.step for recorded in episode.chunks], np.int64)
        row = np.where(chunk == NONE, NONE, episode.steps - np.append(anchors, 0)[chunk])
        counts = np.bincount(chunk[chunk != NONE], minlength=len(anchors))
        accel, bits, calibrated = (np.append(scores, np.nan)[chunk].astype(np.float32) for scores in _scores(episode))
        return cls(chunk, row, np.append(counts, 0)[chunk], accel, bits, calibrated)


def _playing(episode: Episode) -> NDArray[np.int64]:
    playing = np.full(len(episode.steps), NONE, np.int64)
    current, coming = NONE, 0
    for index, (step, time_s) in enumerate(zip(episode.steps.tolist(), episode.times.tolist(), strict=True)):
        while coming < len(episode.chunks) and episode.chunks[coming].time_s <= time_s:
            anchor = episode.chunks[coming].step
            newer = current == NONE or anchor > episode.chunks[current].step
            if newer and 0 <= step - anchor < len(episode.chunks[coming].chunk.actions):
                current = coming
            coming += 1
        if episode.interventions[index]:
            current = NONE  # what was planned before somebody took over is not played after
        elif current != NONE and step - episode.chunks[current].step < len(episode.chunks[current].chunk.actions):
            playing[index] = current
    return playing


def _scores(episode: Episode) -> tuple[list[float], list[float], list[float]]:
    """accel, ACE bits and calibrated primary score of every chunk; NaN where it has none."""
    told: dict[int, dict[str, float]] = {}
    for event in episode.events:
        if event.kind == ENTROPY_EVENT:
            scores = {name: value for name, value in event.data.items() if isinstance(value, int | float)}
            if PRIMARY in event.data.get("calibrated", {}):
                scores["calibrated"] = event.data["calibrated"][PRIMARY]
            told.setdefault(event.step, {}).update(scores)
    columns: tuple[list[float], list[float], list[float]] = ([], [], [])
    for recorded in episode.chunks:
        # A chunk carries the slack scores of the one before; the events know whose they are.
        scores = told.get(recorded.step, {}) if told else recorded.chunk.scores
        for column, name in zip(columns, ("accel", "ace_bits", "calibrated"), strict=True):
            column.append(float(scores.get(name, np.nan)))
    return columns
