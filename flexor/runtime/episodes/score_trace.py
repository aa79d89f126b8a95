"""ScoreTrace: how the scores of one recorded episode went, step by step, and how the episode ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.episodes.episode import Episode, RecordedChunk, read_episode
from flexor.runtime.episodes.episode_files import finished_files
from flexor.runtime.episodes.episode_schema import ENTROPY_EVENT
from flexor.runtime.inference.calibration import Scoring
from flexor.runtime.inference.conformal import SIGNED, CalibrationError

OVERLAP, TIMER = "overlap", "timer"


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One score of one episode.

    Attributes:
        steps: int64 [C], control steps of the observations that were scored, increasing.
        values: float64 [C], finite.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTrace:
    """One episode.

    Attributes:
        id, task, outcome, label: as in Episode.
        hz: control rate, 1/s.
        length: control steps.
        decisive_step: where the failure that explains the episode happened; its last step where nobody told.
        tracks: by score: those that were logged, `overlap` of consecutive chunks, and `timer`, the step count.
        scoring: what the scores depend on; None when the episode does not say.
        shift: level of the domain shift that it was recorded at, "none" where nothing is said of one.
        helped: whether somebody took the arm from the policy.
    """

    id: str
    task: str
    outcome: str
    label: str | None
    hz: float
    length: int
    decisive_step: int
    tracks: Mapping[str, Track]
    scoring: Scoring | None
    shift: str = "none"
    helped: bool = False

    @property
    def good(self) -> bool:
        """Whether the policy succeeded by itself."""
        return self.outcome == "success" and not self.helped

    @classmethod
    def of(cls, episode: Episode) -> ScoreTrace:
        """From a finished episode.

        Raises:
            CalibrationError: a logged score that is not finite, or a scoring that cannot be read.
        """
        logged: dict[str, dict[int, float]] = {}
        for event in episode.events:
            if event.kind == ENTROPY_EVENT:
                for name in SIGNED.keys() & event.data.keys():
                    logged.setdefault(name, {})[event.step] = float(event.data[name])
        logged[OVERLAP] = overlap(episode.chunks)
        length = len(episode.steps)
        tracks = {name: _track(f"{name} of episode {episode.id}", by_step) for name, by_step in logged.items()}
        tracks[TIMER] = Track(np.arange(length), np.arange(length, dtype=np.float64))
        return cls(
            id=episode.id,
            task=episode.meta.task,
            outcome=episode.outcome,
            label=episode.label,
            hz=episode.meta.hz,
            length=length,
            decisive_step=_decisive_step(episode),
            tracks={name: track for name, track in tracks.items() if len(track.steps)},
            scoring=_scoring(episode),
            shift=_shift_level(episode.meta.extra.get("shift", "none")),
            helped=bool(episode.interventions.any()),
        )


def read_traces(root: Path, watch: Callable[[int, int], None] = lambda done, total: None) -> list[ScoreTrace]:
    """The traces of all finished episodes below `root`, in the order of their files; `watch` is told how far it is.

    Raises:
        CalibrationError: there are none.
        EpisodeError: a damaged file.
    """
    files = finished_files(root)
    if not files:
        raise CalibrationError(f"{root} holds no finished episode; record some with `flexor eval --log {root}`")
    traces = []
    for number, file in enumerate(files, start=1):
        traces.append(ScoreTrace.of(read_episode(file)))
        watch(number, len(files))
    return traces


def overlap(chunks: tuple[RecordedChunk, ...]) -> dict[int, float]:
    """How far each chunk leaves the plan before it, by step: STAC with a single sample (Agia et al., 2024).

    The root mean square of the difference of both plans' translation commands, in robot units, over the steps that
    both plan. Rows with which the chunk was asked to begin are equal by construction and left out; a chunk with no
    other common row has no value.
    """
    found: dict[int, float] = {}
    for before, after in pairwise(chunks):
        shift = after.step - before.step
        old, new = before.chunk.actions[max(shift, 0) :], after.chunk.actions
        rows = min(len(old), len(new))
        different = np.flatnonzero((old[:rows] != new[:rows]).any(axis=1))
        if shift > 0 and len(different):
            gap = (old[different[0] : rows, :3] - new[different[0] : rows, :3]).astype(np.float64)
            found[after.step] = float(np.sqrt(np.mean(gap**2)))
    return found


def _track(what: str, by_step: Mapping[int, float]) -> Track:
    steps = np.array(sorted(by_step), np.int64)
    values = np.array([by_step[step] for step in steps.tolist()], np.float64)
    if not np.isfinite(values).all():
        raise CalibrationError(f"{what} is not finite at step {steps[~np.isfinite(values)][0]}; leave that episode out")
    return Track(steps, values)


def _decisive_step(episode: Episode) -> int:
    last = max(len(episode.steps) - 1, 0)
    explained = [event.step for event in episode.events if event.kind == f"failure.{episode.label}"]
    return min(explained[-1], last) if explained else last


def _shift_level(shift: object) -> str:
    return str(shift.get("level", "none") if isinstance(shift, Mapping) else shift)


def _scoring(episode: Episode) -> Scoring | None:
    told = episode.meta.extra.get("scoring")
    try:
        return None if told is None else Scoring(**told)
    except TypeError as error:
        raise CalibrationError(f"episode {episode.id} says how it was scored in another form: {error}") from error
