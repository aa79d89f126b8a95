"""Finds what is wrong with episodes on disk, and mends what can be mended."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap.records import DataEnd, Footer
from mcap.stream_reader import MAGIC_SIZE

from flexor.runtime.episodes.corrections import SUFFIX, corrections_file, mend_corrections, read_corrections
from flexor.runtime.episodes.episode import DAMAGE, Episode, open_reader, read_episode
from flexor.runtime.episodes.episode_files import episode_folder, finished_files, is_being_recorded, unfinished_files
from flexor.runtime.episodes.episode_schema import OUTCOMES, SOURCES, EpisodeError
from flexor.runtime.episodes.frame_codec import frame_digest
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import FILE_COLUMNS, EpisodeRow, row_of
from flexor.runtime.episodes.recovery import NothingToKeep, recover

CRC_SIZE = 4


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong below a root.

    Attributes:
        kind: damaged (a finished file does not read), unfinished (a part file whose writer is gone), missing (a row
            without its file), unlisted (a file without its row), stale (a row that says something else than its file),
            mislabelled (corrections that do not read), orphaned (corrections of an episode that is gone).
        file: relative to the root.
        detail: what was found.
    """

    kind: str
    file: str
    detail: str


@dataclass(frozen=True, slots=True)
class RootCheck:
    """What check_root found: how many finished files, which are being recorded now, and the problems."""

    episodes: int
    recording: tuple[str, ...]
    problems: tuple[Problem, ...]


def check_file(path: Path) -> list[str]:
    """What is wrong with one finished episode file, in words; an empty list when nothing is.

    Every byte is covered: the data section by its CRC, the summary by its own, the magic by comparison. Then the
    records must make an episode whose every frame decodes.
    """
    try:
        problems = list(_check_bytes(path))
        return problems or list(_check_episode(path, read_episode(path)))
    except (EpisodeError, OSError, *DAMAGE) as error:
        return [f"{type(error).__name__}: {error}"]


def check_root(root: Path, on_file: Callable[[Path], None] = lambda path: None) -> RootCheck:
    """Check every file below a root, and the index against them. `on_file` is called before each file."""
    episode_folder(root)
    problems: list[Problem] = []
    files = finished_files(root)  # before the index: an episode that ends meanwhile has its row later than its file
    rows = {row.file: row for row in EpisodeIndex(root).episodes()}
    for path in files:
        on_file(path)
        problems += _check_listed(root, path, rows.pop(path.relative_to(root).as_posix(), None))
    for file in rows:
        if not (root / file).exists():
            problems.append(Problem("missing", file, "the index has a row for it, but there is no file"))
    problems += _orphans(root)
    recording: list[str] = []
    for path in unfinished_files(root):
        name = path.relative_to(root).as_posix()
        try:
            alive = is_being_recorded(path)
        except FileNotFoundError:
            continue  # its episode ended meanwhile
        if alive:
            recording.append(name)
        else:
            problems.append(Problem("unfinished", name, "its writer is gone"))
    return RootCheck(len(files), tuple(recording), tuple(problems))


def repair(root: Path, problem: Problem) -> str:
    """Mend one problem and say what was done. Raises EpisodeError when it cannot be mended."""
    index, path = EpisodeIndex(root), root / problem.file
    if problem.kind == "missing":
        index.remove(path.stem)
        return "took its row out of the index"
    if problem.kind == "orphaned":
        path.unlink()
        return "removed them"
    if problem.kind == "mislabelled":
        episode = path.with_name(path.name.removesuffix(SUFFIX) + ".mcap")
        done = mend_corrections(episode)
        index.add(episode)
        return done
    if problem.kind in ("damaged", "unfinished"):
        try:
            row = index.add(recover(path))
        except NothingToKeep:
            return _set_aside(index, path)
        return f"kept {row.steps} steps and {row.frames} frames as {row.file}, outcome {row.outcome}"
    index.add(path)
    return "wrote its row into the index"


def _set_aside(index: EpisodeIndex, path: Path) -> str:
    aside = path.with_name(path.name.split(".")[0] + ".mcap.damaged")
    if aside.exists():  # of an earlier repair, which may have lost more
        aside = aside.with_name(f"{path.name.split('.')[0]}.{time.time_ns()}.mcap.damaged")
    path.rename(aside)
    if any(row.id == path.stem for row in index.episodes()):
        index.remove(path.stem)
    return f"set aside as {aside.name}: its beginning is gone, so nothing in it can be kept"


def _check_listed(root: Path, path: Path, row: EpisodeRow | None) -> Iterator[Problem]:
    name = path.relative_to(root).as_posix()
    try:
        read_corrections(path)
    except EpisodeError as error:
        labels = corrections_file(path).relative_to(root).as_posix()
        yield Problem("mislabelled", labels, str(error))
        return
    found = check_file(path)
    if found:
        yield Problem("damaged", name, "; ".join(found))
    elif row is None:
        yield Problem("unlisted", name, "the index has no row for it")
    else:
        truth = row_of(root, path, read_episode(path))
        if row != truth:
            differing = [column for column in FILE_COLUMNS if getattr(row, column) != getattr(truth, column)]
            yield Problem("stale", name, f"the index has other values of {', '.join(differing)}")


def _orphans(root: Path) -> Iterator[Problem]:
    for path in sorted((root / "episodes").glob(f"*{SUFFIX}")):
        # An episode that was set aside may be mended some day, so that its corrections stay.
        if not any(path.parent.glob(f"{path.name.removesuffix(SUFFIX)}.*mcap*")):
            yield Problem("orphaned", path.relative_to(root).as_posix(), "the episode that it corrects is gone")


def _check_bytes(path: Path) -> Iterator[str]:
    data_crc = summary_start = summary_crc = 0
    data = path.read_bytes()
    for record in open_reader(data, validate_crcs=True).records:
        if isinstance(record, DataEnd):
            data_crc = record.data_section_crc
        elif isinstance(record, Footer):
            summary_start, summary_crc = record.summary_start, record.summary_crc
    # mcap's readers do not compare the summary's CRC. It covers all from there up to itself, in the footer.
    if zlib.crc32(data[summary_start : -CRC_SIZE - MAGIC_SIZE]) != summary_crc:
        yield "the CRC of the summary does not fit"
    if data_crc == 0:  # readers take 0 for "not checked", and flexor always writes one
        yield "the data section has no CRC"


def _check_episode(path: Path, episode: Episode) -> Iterator[str]:
    if path.name != f"{episode.id}.mcap":
        yield f"the file holds episode {episode.id}; rename it to {episode.id}.mcap"
    if episode.outcome not in OUTCOMES or episode.source not in SOURCES:
        yield f'it ends with outcome "{episode.outcome}" from source "{episode.source}"'
    if np.any(np.diff(episode.steps) <= 0):
        yield "its steps do not increase"
    for camera, frames in episode.frames.items():
        for step, frame in frames.items():
            digest = frames.digest(step)
            if episode.images == "png" and frame_digest(frame) != digest:
                yield f"the frame of {camera} at step {step} is not the one that was recorded"
