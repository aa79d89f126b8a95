"""One row of the index: what it says about an episode, and how SQLite keeps it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.episode_schema import ALARM_EVENT, ENTROPY_EVENT
from flexor.runtime.inference.calibration import PRIMARY


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One row of the index; everything in it but `used_by` is read from the episode's file.

    Attributes:
        id: the file's name without ending.
        file: path of the file, relative to the root.
        started: UTC, ISO 8601 with microseconds.
        duration_s: wall time from begin to end, seconds.
        robot, task, prompt, seed, bundle, adapter, hz: as in EpisodeMeta; the seed as text, for SQLite's integers
            end at 2**63.
        outcome, label, source, recovered: as in Episode.
        steps, frames, chunks, events, interventions: how many; frames counts each camera's.
        accel_mean, accel_max, entropy_bits_mean, entropy_bits_max: over the chunks with a finite score "accel"
            or "ace_bits"; None when there is no such chunk.
        calibrated_max: of the calibrated primary score; None where scores were not calibrated (docs/entropy.md).
        alarm_step: where it first was above 2.0, which flags the episode "pre-fail"; None when it never was.
        bytes: size of the file.
        advised: control steps at which somebody said what they would do, and left the arm to the policy.
        used_by: what was learned from it (name@hash of a bundle, id of an adapter), in the order of the learning.
            Rows that differ in nothing else are equal, for no file says it.
    """

    id: str
    file: str
    started: str
    duration_s: float
    robot: str
    task: str
    prompt: str
    seed: str
    bundle: str
    adapter: str
    hz: float
    outcome: str
    label: str | None
    source: str
    recovered: bool
    steps: int
    frames: int
    chunks: int
    events: int
    interventions: int
    accel_mean: float | None
    accel_max: float | None
    entropy_bits_mean: float | None
    entropy_bits_max: float | None
    calibrated_max: float | None
    alarm_step: int | None
    bytes: int
    advised: int = 0
    used_by: tuple[str, ...] = field(default=(), compare=False)

    @property
    def priority(self) -> float:
        """How much there is to learn: max(calibrated score) / 2, and 1 for a failure, and 1 where somebody intervened.

        A calibrated score of 2.0 is an alarm, so that an alarm, a failure and an intervention weigh the same. Raw
        scores count nothing: what is much depends on the policy. It follows from the other columns, so that it changes
        with a corrected outcome and needs no column of its own.
        """
        surprise = 0.0 if self.calibrated_max is None else max(self.calibrated_max, 0.0) / 2.0
        return surprise + (self.outcome == "failure") + (self.interventions > 0)


FILE_COLUMNS = tuple(field.name for field in fields(EpisodeRow) if field.compare)
USED_BY_COLUMN = "used_by TEXT NOT NULL DEFAULT '[]'"  # a JSON list
# Columns that the first index lacked: how ALTER TABLE takes them, and what they would say there.
LATER_COLUMNS = {
    "calibrated_max": ("calibrated_max REAL", "NULL"),
    "alarm_step": ("alarm_step INTEGER", "NULL"),
    "used_by": (USED_BY_COLUMN, "'[]'"),
    "advised": ("advised INTEGER NOT NULL DEFAULT 0", "0"),
}
_SQL_TYPES = {"str": "TEXT", "float": "REAL", "int": "INTEGER", "bool": "INTEGER"}


def row_of(root: Path, path: Path, episode: Episode) -> EpisodeRow:
    """What the index says about an episode that lies in `path`, a file below `root`, before anybody used it."""
    accel, ace = _scores(episode, "accel"), _scores(episode, "ace_bits")
    meta = episode.meta
    return EpisodeRow(
        id=episode.id,
        file=path.relative_to(root).as_posix(),
        started=datetime.fromtimestamp(episode.started_ns // 1000 / 1e6, UTC).isoformat(timespec="microseconds"),
        duration_s=episode.duration_s,
        robot=meta.robot,
        task=meta.task,
        prompt=meta.prompt,
        seed=str(meta.seed),
        bundle=meta.bundle,
        adapter=meta.adapter,
        hz=meta.hz,
        outcome=episode.outcome,
        label=episode.label,
        source=episode.source,
        recovered=episode.recovered,
        steps=len(episode.steps),
        frames=sum(len(frames) for frames in episode.frames.values()),
        chunks=len(episode.chunks),
        events=len(episode.events),
        interventions=int(episode.interventions.sum()),
        accel_mean=float(np.mean(accel)) if accel else None,
        accel_max=max(accel, default=None),
        entropy_bits_mean=float(np.mean(ace)) if ace else None,
        entropy_bits_max=max(ace, default=None),
        calibrated_max=_calibrated_max(episode),
        alarm_step=next((event.step for event in episode.events if event.kind == ALARM_EVENT), None),
        bytes=path.stat().st_size,
        advised=int(episode.advised.sum()),
    )


def table_columns() -> str:
    """The columns of the table, as CREATE TABLE takes them."""
    columns = [_column(field.name, str(field.type)) for field in fields(EpisodeRow) if field.compare]
    return ", ".join([*columns, USED_BY_COLUMN])


def row_from_sql(values: tuple[object, ...]) -> EpisodeRow:
    """The row of the values of FILE_COLUMNS and used_by, in this order."""
    by_name = dict(zip((*FILE_COLUMNS, "used_by"), values, strict=True))
    by_name["recovered"] = bool(by_name["recovered"])
    by_name["used_by"] = tuple(json.loads(str(by_name["used_by"])))
    return EpisodeRow(**by_name)  # pyright: ignore[reportArgumentType]


def _calibrated_max(episode: Episode) -> float | None:
    events = [event.data for event in episode.events if event.kind == ENTROPY_EVENT]
    found = [data["calibrated"][PRIMARY] for data in events if PRIMARY in data.get("calibrated", {})]
    return max(found, default=None)


def _scores(episode: Episode, name: str) -> list[float]:
    values = [recorded.chunk.scores[name] for recorded in episode.chunks if name in recorded.chunk.scores]
    return [value for value in values if math.isfinite(value)]


def _column(name: str, kind: str) -> str:
    plain = kind.removesuffix(" | None")
    nullable = "" if plain != kind else " NOT NULL"
    return f"{name} {_SQL_TYPES[plain]}{' PRIMARY KEY' if name == 'id' else ''}{nullable}"
