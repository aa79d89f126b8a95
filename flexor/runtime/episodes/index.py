"""The index of an episode folder: one SQLite row an episode, for questions that should not open every file."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.episode_files import finished_files
from flexor.runtime.episodes.episode_schema import OUTCOMES, EpisodeError

INDEX_VERSION = 1
BUSY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One row of the index; everything in it is read from the episode's file.

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
        bytes: size of the file.
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
    bytes: int


_COLUMNS = tuple(field.name for field in fields(EpisodeRow))
_SQL_TYPES = {"str": "TEXT", "float": "REAL", "int": "INTEGER", "bool": "INTEGER"}


def row_of(root: Path, path: Path, episode: Episode) -> EpisodeRow:
    """What the index says about an episode that lies in `path`, a file below `root`."""
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
        bytes=path.stat().st_size,
    )


class EpisodeIndex:
    """`root`/index.sqlite. Several processes may write at once (WAL); a writer waits up to 10 s for the others.

    The files are the truth: `rebuild` makes the index again from them. Every method raises EpisodeError naming the
    index file when SQLite refuses.
    """

    def __init__(self, root: Path | str) -> None:
        """No file is opened or made before the first question."""
        self.root = Path(root)
        self.path = self.root / "index.sqlite"

    def add(self, path: Path) -> EpisodeRow:
        """Read a finished episode file below the root and put its row in, replacing an older row of the same id."""
        row = row_of(self.root, path, read_episode(path))
        with self._transaction() as connection:
            _insert(connection, row)
        return row

    def remove(self, episode_id: str) -> None:
        """Take a row out; the file stays. An id that has no row is an error."""
        with self._transaction() as connection:
            if connection.execute("DELETE FROM episodes WHERE id = ?", (episode_id,)).rowcount == 0:
                raise EpisodeError(
                    f"{self.path} has no episode {episode_id}; `flexor episodes list` names those it has"
                )

    def episodes(self, outcome: str | None = None, task: str | None = None) -> list[EpisodeRow]:
        """Rows in the order of their beginning, those of one outcome or task if asked; none when there is no index.

        A reader waits for no writer and holds none up. The folder may be one that cannot be written to.
        """
        if outcome is not None and outcome not in OUTCOMES:
            raise EpisodeError(f'outcome is "{outcome}"; give one of {", ".join(OUTCOMES)}')
        if not self.path.exists():
            return []
        where = {"outcome": outcome, "task": task}
        given = {column: value for column, value in where.items() if value is not None}
        condition = " WHERE " + " AND ".join(f"{column} = ?" for column in given) if given else ""
        with self._reading() as connection:
            if self._version(connection) == 0:
                return []  # another process makes the index this moment
            rows = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM episodes{condition} ORDER BY started, id", tuple(given.values())
            ).fetchall()
        return [_row(values) for values in rows]

    def rebuild(self) -> list[EpisodeRow]:
        """Make every row again from the files, in one transaction. Raises EpisodeError at the first damaged file."""
        rows = [row_of(self.root, path, read_episode(path)) for path in finished_files(self.root)]
        with self._transaction() as connection:
            connection.execute("DELETE FROM episodes")
            for row in rows:
                _insert(connection, row)
        return sorted(rows, key=lambda row: (row.started, row.id))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._named_errors(), contextlib.closing(self._connect_to_read()) as connection:
            connection.execute("BEGIN DEFERRED")
            yield connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._named_errors(), contextlib.closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise EpisodeError(
                f"episode index {self.path}: {error}; if it stays so, delete the index.sqlite* files and run "
                "`flexor episodes verify --repair`, which makes them again from the episodes"
            ) from error

    def _connect_to_read(self) -> sqlite3.Connection:
        mode = "mode=rw"
        if not os.access(self.root, os.W_OK):
            # SQLite cannot make a log here. Without one that a writer left open, the file itself is all there is.
            mode = "mode=ro" if Path(f"{self.path}-wal").exists() else "mode=ro&immutable=1"
        uri = f"{self.path.resolve().as_uri()}?{mode}"
        return sqlite3.connect(uri, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True)

    def _version(self, connection: sqlite3.Connection) -> int:
        """0 of an index that was not made yet. Raises sqlite3.DatabaseError when this flexor does not read it."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, INDEX_VERSION):
            raise sqlite3.DatabaseError(f"its version is {version}, this flexor reads {INDEX_VERSION}")
        return version

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._switch_to_wal(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            if self._version(connection) == 0:
                self._create(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not apply the busy timeout to this one statement when two processes make the file together.
        give_up = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)

    def _create(self, connection: sqlite3.Connection) -> None:
        columns = ", ".join(_column(field.name, str(field.type)) for field in fields(EpisodeRow))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"CREATE TABLE IF NOT EXISTS episodes ({columns})")
        connection.execute("CREATE INDEX IF NOT EXISTS episodes_by_outcome ON episodes (outcome, task)")
        connection.execute(f"PRAGMA user_version={INDEX_VERSION}")
        connection.execute("COMMIT")


def _scores(episode: Episode, name: str) -> list[float]:
    values = [recorded.chunk.scores[name] for recorded in episode.chunks if name in recorded.chunk.scores]
    return [value for value in values if math.isfinite(value)]


def _column(name: str, kind: str) -> str:
    plain = kind.removesuffix(" | None")
    nullable = "" if plain != kind else " NOT NULL"
    return f"{name} {_SQL_TYPES[plain]}{' PRIMARY KEY' if name == 'id' else ''}{nullable}"


def _insert(connection: sqlite3.Connection, row: EpisodeRow) -> None:
    marks = ", ".join("?" * len(_COLUMNS))
    connection.execute(f"INSERT OR REPLACE INTO episodes ({', '.join(_COLUMNS)}) VALUES ({marks})", astuple(row))


def _row(values: tuple[object, ...]) -> EpisodeRow:
    by_name = dict(zip(_COLUMNS, values, strict=True))
    return EpisodeRow(**{**by_name, "recovered": bool(by_name["recovered"])})  # pyright: ignore[reportArgumentType]
