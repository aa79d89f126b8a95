"""The index of an episode folder: one SQLite row an episode, for questions that should not open every file."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import OUTCOMES, EpisodeError
from flexor.runtime.episodes.index_row import (
    FILE_COLUMNS,
    LATER_COLUMNS,
    EpisodeRow,
    row_from_sql,
    row_of,
    table_columns,
)

INDEX_VERSION = 4  # older ones lack some of LATER_COLUMNS: read as they are, and changed by the first who writes
BUSY_TIMEOUT_S = 10.0

# What to do about an error of SQLite, by its primary code; anything else says that the file is no good any more.
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)  # on a full disk it cannot even make its lock table
_FREE_THE_DISK = "free the disk (`flexor episodes evict`), then `flexor episodes verify --repair` lists what is missing"
_WAY_OUT = dict.fromkeys(_NO_ROOM, _FREE_THE_DISK) | {
    sqlite3.SQLITE_READONLY: "mend the permissions of the folder",
    sqlite3.SQLITE_CANTOPEN: "mend the permissions of the folder",
    sqlite3.SQLITE_BUSY: "let the other process finish first",
}
_MAKE_AGAIN = (
    "if it stays so, delete the index.sqlite* files and run `flexor episodes verify --repair`, which makes them "
    "again from the episodes"
)


class IndexNoRoom(EpisodeError):
    """The disk is full, or broken: the index cannot be changed."""


class EpisodeIndex:
    """`root`/index.sqlite. Several processes may write at once (WAL); a writer waits up to 10 s for the others.

    The files are the truth: all of a row but who used the episode can be made again from its file. Every method
    raises EpisodeError naming the index file when SQLite refuses.
    """

    def __init__(self, root: Path | str) -> None:
        """No file is opened or made before the first question."""
        self.root = Path(root)
        self.path = self.root / "index.sqlite"

    def add(self, path: Path) -> EpisodeRow:
        """Read a finished episode file below the root and put its row in; an older row of the id keeps its used_by."""
        row = row_of(self.root, path, read_episode(path))
        marks = ", ".join("?" * len(FILE_COLUMNS))
        changed = ", ".join(f"{column} = excluded.{column}" for column in FILE_COLUMNS)
        with self._transaction() as connection:
            connection.execute(
                f"INSERT INTO episodes ({', '.join(FILE_COLUMNS)}) VALUES ({marks}) "
                f"ON CONFLICT (id) DO UPDATE SET {changed}",
                tuple(getattr(row, column) for column in FILE_COLUMNS),
            )
        return row

    def remove(self, episode_id: str) -> None:
        """Take a row out; the file stays. An id that has no row is an error."""
        with self._transaction() as connection:
            if connection.execute("DELETE FROM episodes WHERE id = ?", (episode_id,)).rowcount == 0:
                raise self._unknown([episode_id])

    def mark_used(self, ids: Collection[str], by: str) -> None:
        """Remember that a learner is done with these episodes: they were learned from, or it wants nothing of them.

        All are marked or none; who is marked already stays so. DiskBudget lets only marked episodes go.

        Args:
            ids: of episodes that have a row.
            by: whose learning it was: name@hash of the bundle or the id of the adapter that came of it.

        Raises:
            EpisodeError: an id has no row, `by` is empty, or SQLite refuses.
        """
        if not by:
            raise EpisodeError("episodes are marked as used by nobody; give the bundle or adapter that they made")
        wanted = set(ids)
        with self._transaction() as connection:
            found = dict(connection.execute("SELECT id, used_by FROM episodes").fetchall())
            if not wanted <= found.keys():
                raise self._unknown(sorted(wanted - found.keys()))
            users = {episode_id: json.loads(found[episode_id]) for episode_id in wanted}
            connection.executemany(
                "UPDATE episodes SET used_by = ? WHERE id = ?",
                [(json.dumps([*used, by]), episode_id) for episode_id, used in users.items() if by not in used],
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
            absent = _absent_columns(connection)
            columns = [LATER_COLUMNS[name][1] if name in absent else name for name in (*FILE_COLUMNS, "used_by")]
            rows = connection.execute(
                f"SELECT {', '.join(columns)} FROM episodes{condition} ORDER BY started, id", tuple(given.values())
            ).fetchall()
        return [row_from_sql(values) for values in rows]

    def _unknown(self, ids: list[str]) -> EpisodeError:
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        return EpisodeError(
            f"{self.path} has no episode {', '.join(ids[:3])}{more}; `flexor episodes list` names those it has"
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._named_errors(), contextlib.closing(self._connect_to_read()) as connection:
            connection.execute("BEGIN DEFERRED")
            yield connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._named_errors(), contextlib.closing(self._connect()) as connection, _all_or_nothing(connection):
            yield connection

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind = IndexNoRoom if _code(error) in _NO_ROOM else EpisodeError
            way_out = _WAY_OUT.get(_code(error), _MAKE_AGAIN)
            raise kind(f"episode index {self.path}: {error}; {way_out}") from error

    def _connect_to_read(self) -> sqlite3.Connection:
        mode = "mode=rw"
        if not os.access(self.root, os.W_OK):
            # SQLite cannot make a log here. Without one that a writer left open, the file itself is all there is.
            mode = "mode=ro" if Path(f"{self.path}-wal").exists() else "mode=ro&immutable=1"
        # The second try is for a full disk: reading alone takes no table of locks, which needs room.
        for locking in ("NORMAL", "EXCLUSIVE"):
            uri = f"{self.path.resolve().as_uri()}?{mode}"
            connection = sqlite3.connect(uri, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True)
            try:
                connection.execute(f"PRAGMA locking_mode={locking}")
                self._version(connection)
                break
            except sqlite3.Error as error:
                connection.close()
                if locking == "EXCLUSIVE" or _code(error) not in _NO_ROOM:
                    raise
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """0 of an index that was not made yet. Raises sqlite3.DatabaseError when this flexor does not read it."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not 0 <= version <= INDEX_VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}, this flexor reads up to {INDEX_VERSION}")
        return version

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._switch_to_wal(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            if self._version(connection) < INDEX_VERSION:
                self._make(connection)
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

    def _make(self, connection: sqlite3.Connection) -> None:
        with _all_or_nothing(connection):
            if self._version(connection) == 0:  # another process may have been faster
                connection.execute(f"CREATE TABLE episodes ({table_columns()})")
                connection.execute("CREATE INDEX episodes_by_outcome ON episodes (outcome, task)")
            for name in _absent_columns(connection):
                connection.execute(f"ALTER TABLE episodes ADD COLUMN {LATER_COLUMNS[name][0]}")
            connection.execute(f"PRAGMA user_version={INDEX_VERSION}")


@contextlib.contextmanager
def _all_or_nothing(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite itself ended it when the disk is full
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _absent_columns(connection: sqlite3.Connection) -> list[str]:
    present = {row[1] for row in connection.execute("PRAGMA table_info(episodes)")}
    return [name for name in LATER_COLUMNS if name not in present]


def _code(error: sqlite3.Error) -> int:
    """The primary code; 1 (SQLITE_ERROR) where Python itself raised it."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
