"""RunRecord: what a run left on disk: its episodes' index, its adapters with their log, its learner's curves.

Everything is only read, and read again only where a file has changed, so that a page may ask every second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from flexor.errors import FlexorError
from flexor.flywheel.online.stages import LEDGER
from flexor.flywheel.row_file import Row, read_rows
from flexor.learner.curves import read_curves
from flexor.runtime.adapters.adapter_listing import listing
from flexor.runtime.adapters.audit_log import AUDIT, read_audit
from flexor.runtime.adapters.store_state import STATE, StoreState
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import EpisodeRow

INDEX, CURVES, EPISODES, ADAPTERS = "index.sqlite", "curves.jsonl", "episodes", "adapters"
WORK_SUFFIX = ".training"  # of the folder that a learner works in, beside its adapters
Held = TypeVar("Held")


@dataclass(frozen=True, slots=True)
class RunFolders:
    """Where a run keeps what it records; None for what it has not.

    Attributes:
        episodes: folder that episodes were logged to.
        adapters: directory of adapters.
        learner: folder of one learner's run, or of several, each with its curves.jsonl.
        ledger: file of the finished stages of `flexor flywheel`.
    """

    episodes: Path | None = None
    adapters: Path | None = None
    learner: Path | None = None
    ledger: Path | None = None

    @classmethod
    def find(
        cls, run: Path, episodes: Path | None = None, adapters: Path | None = None, learner: Path | None = None
    ) -> RunFolders:
        """The folders of a run: those that are given, the others found in `run` and in the folders just below it.

        Of several that hold episodes, or adapters, those named so are taken, as `flexor flywheel` has them.

        Raises:
            FlexorError: `run` is no folder, holds no episodes, or several folders of a kind.
        """
        if not run.is_dir():
            raise FlexorError(f"{run} is no folder; give one in which a run keeps its episodes")
        episodes = episodes or _only(run, INDEX, EPISODES, "--episodes")
        if episodes is None:
            raise FlexorError(f"{run} and the folders in it hold no episodes ({INDEX}); name them with --episodes DIR")
        curves = [file.parent for file in (run / CURVES, *sorted(run.glob(f"*/{CURVES}"))) if file.is_file()]
        below = {file.parent.parent for file in run.glob(f"*/*/{CURVES}")}
        if learner is None and len(found := {*curves, *below}) > 1:
            raise FlexorError(f"learners left curves in {', '.join(map(str, sorted(found)))}; choose: --learner DIR")
        adapters = adapters or _only(run, AUDIT, ADAPTERS, "--adapters")
        ledger = run / LEDGER if (run / LEDGER).is_file() else None
        return cls(episodes, adapters, learner or next(iter({*curves, *below}), None), ledger)


@dataclass(frozen=True, slots=True)
class Curve:
    """The rows of one learner's run: `step` and numbers by name, such as train/loss."""

    name: str
    rows: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Attributes:
    rows: of the index, in the order in which the episodes began.
    adapters: as `flexor adapter list --dir` tells it; None without a directory, or one that cannot be read.
    audit: what happened to adapters, oldest first.
    curves: of the learner's runs, the one that was written to last at the end.
    ledger: rows of the stages that `flexor flywheel` has finished; [] of another run.
    troubles: what could not be read, and why.
    """

    rows: list[EpisodeRow]
    adapters: dict[str, Any] | None
    audit: list[dict[str, Any]]
    curves: list[Curve]
    ledger: list[Row]
    troubles: list[str]


class RunReader:
    """Reads the folders of one run, again and again. One thread uses it."""

    def __init__(self, folders: RunFolders) -> None:
        self._folders = folders
        self._rows: _Source[list[EpisodeRow]] = _Source(self._index_files, self._read_rows, [])
        self._adapters: _Source[dict[str, Any] | None] = _Source(self._adapter_files, self._read_adapters, None)
        self._audit: _Source[list[dict[str, Any]]] = _Source(self._audit_files, self._read_audit, [])
        self._curves: _Source[list[Curve]] = _Source(self._curve_files, self._read_curves, [])
        self._ledger: _Source[list[Row]] = _Source(self._ledger_files, self._read_ledger, [])

    def read(self) -> RunRecord:
        """How it stands now; what cannot be read is as it was last, and told in `troubles`."""
        sources = (self._rows, self._adapters, self._audit, self._curves, self._ledger)
        told = [trouble for source in sources if (trouble := source.look()) is not None]
        held = (self._rows.held, self._adapters.held, self._audit.held, self._curves.held, self._ledger.held)
        return RunRecord(*held, told)

    def _index_files(self) -> list[Path]:
        root = self._folders.episodes
        return [] if root is None else [root / INDEX, root / f"{INDEX}-wal"]

    def _read_rows(self) -> list[EpisodeRow]:
        root = self._folders.episodes
        if root is None:
            return []
        if not (root / INDEX).exists():
            raise FlexorError(f"{root} has no {INDEX} yet; nothing was logged there")
        return EpisodeIndex(root).episodes()

    def _adapter_files(self) -> list[Path]:
        root = self._folders.adapters
        return [] if root is None else [root, root / STATE]

    def _read_adapters(self) -> dict[str, Any] | None:
        root = self._folders.adapters
        return None if root is None else listing(root, StoreState.read(root))

    def _audit_files(self) -> list[Path]:
        root = self._folders.adapters
        return [] if root is None else [root / AUDIT]

    def _read_audit(self) -> list[dict[str, Any]]:
        root = self._folders.adapters
        entries = [] if root is None else read_audit(root)[0]
        return [entry for entry in entries if isinstance(entry, dict)]

    def _curve_files(self) -> list[Path]:
        root = self._folders.learner
        files = [] if root is None else [file for file in (root / CURVES, *root.glob(f"*/{CURVES}")) if file.is_file()]
        return sorted(files, key=lambda file: (file.stat().st_mtime_ns, file))

    def _read_curves(self) -> list[Curve]:
        found = []
        for file in self._curve_files():
            try:
                rows = [_numbers(row) for row in read_curves(file) if isinstance(row, dict)]
            except ValueError as error:
                raise FlexorError(f"{file} is no file of curves: {error}") from error
            found.append(Curve(file.parent.name, [row for row in rows if "step" in row]))
        return found

    def _ledger_files(self) -> list[Path]:
        return [] if self._folders.ledger is None else [self._folders.ledger]

    def _read_ledger(self) -> list[Row]:
        return [] if self._folders.ledger is None else read_rows(self._folders.ledger)


class _Source(Generic[Held]):
    """One thing that is read from files, when one of them has changed.

    Attributes:
        held: what was last read.
    """

    def __init__(self, files: Callable[[], list[Path]], read: Callable[[], Held], empty: Held) -> None:
        self._files, self._read, self.held = files, read, empty
        self._stamp: object = None

    def look(self) -> str | None:
        """Read it if need be; why that was not possible."""
        try:
            stamp = [(file, _stamp(file)) for file in self._files()]
            if stamp != self._stamp:
                self.held = self._read()
                self._stamp = stamp
        except (FlexorError, OSError) as error:
            return str(error)
        return None


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, int | float)}


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        told = file.stat()
    except FileNotFoundError:
        return None
    return told.st_mtime_ns, told.st_size


def _only(run: Path, name: str, usual: str, option: str) -> Path | None:
    """The folder of the only file of a name in a run, or of the one where it usually lies; None without one.

    A learner's work folder (`adapters`.training) has a log of its own, which is none of a directory of adapters.
    """
    if (run / usual / name).is_file():
        return run / usual
    files = (run / name, *sorted(run.glob(f"*/{name}")))
    found = [file.parent for file in files if file.is_file() and file.parent.suffix != WORK_SUFFIX]
    if len(found) > 1:
        raise FlexorError(f"{run} has {name} in {', '.join(map(str, found))}; choose: {option} DIR")
    return found[0] if found else None
