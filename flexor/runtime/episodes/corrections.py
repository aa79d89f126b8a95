"""Corrections: what an operator says of a finished episode later, beside its file, which stays as it is.

`ID.labels.jsonl` has one line a correction, oldest first, each with its own digest. The last one counts; the others
tell who said what before. The file is written anew and renamed for each, so that it is never torn.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from flexor.runtime.disk import sync
from flexor.runtime.episodes.episode_schema import OUTCOMES, EpisodeError

SUFFIX = ".labels.jsonl"
LABEL = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Correction:
    """One line.

    Attributes:
        time: UTC, ISO 8601 with microseconds.
        by: who said so.
        outcome, label: what they said; label None where there is none.
        was_outcome, was_label, was_source: what stood there before.
        note: why, in their words; may be empty.
    """

    time: str
    by: str
    outcome: str
    label: str | None
    was_outcome: str
    was_label: str | None
    was_source: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise EpisodeError(f'outcome is "{self.outcome}"; give one of {", ".join(OUTCOMES)}')
        if self.label is not None and LABEL.fullmatch(self.label) is None:
            raise EpisodeError(
                f'label is "{self.label}"; give a word of small letters, digits and _ such as grasp_slip '
                "(docs/failures.md), or none"
            )
        if self.label is not None and self.outcome == "success":
            raise EpisodeError(f'a success has no failure label, and "{self.label}" was given; leave it out')
        if not self.by.strip():
            raise EpisodeError("nobody is named who corrects the episode; say who with --by")

    def line(self) -> str:
        """As it stands in the file, with the digest of the rest."""
        return json.dumps({**asdict(self), "digest": _digest(asdict(self))}, sort_keys=True) + "\n"

    @classmethod
    def parse(cls, line: str) -> Correction:
        """From its line. Raises EpisodeError when that is not whole."""
        try:
            told = json.loads(line)
            digest = told.pop("digest")
            if digest != _digest(told):
                raise ValueError("its digest does not fit")
            return cls(**told)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EpisodeError(
                f"a correction does not read ({type(error).__name__}: {error}): {line[:80]!r}"
            ) from error


def corrections_file(path: Path) -> Path:
    """Where corrections of the episode file `path` lie."""
    return path.with_name(path.name.split(".")[0] + SUFFIX)


def read_corrections(path: Path) -> tuple[Correction, ...]:
    """What was said of the episode file `path` later, oldest first.

    Raises:
        EpisodeError: a line is not whole.
        OSError: the disk refuses.
    """
    file = corrections_file(path)
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as error:
        raise EpisodeError(f"{file}: {error}; `flexor episodes verify --repair` keeps what is whole") from error
    try:
        return tuple(Correction.parse(line) for line in lines)
    except EpisodeError as error:
        raise EpisodeError(f"{file}: {error}; `flexor episodes verify --repair` keeps what is whole") from error


def add_correction(path: Path, correction: Correction) -> None:
    """Put one more line beside the finished episode file `path`; it is on disk when this returns.

    Raises:
        EpisodeError: another process corrects it now, an earlier line is not whole, or the disk refuses.
    """
    try:
        with path.open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EpisodeError(f"another process works on {path} now; let it finish, then try again") from error
            _replace(corrections_file(path), [*read_corrections(path), correction])
    except OSError as error:
        raise EpisodeError(f"cannot correct {path}: {error}; free the disk or mend its permissions") from error


def mend_corrections(path: Path) -> str:
    """Keep the whole lines beside the episode file `path`; the damaged file stays as `.damaged`. Says what was done.

    Raises:
        OSError: the disk refuses.
    """
    file, whole, lost = corrections_file(path), [], 0
    for line in file.read_text(errors="replace").splitlines():
        try:
            whole.append(Correction.parse(line))
        except EpisodeError:
            lost += 1  # counted, and kept in the damaged file
    os.replace(file, file.with_name(file.name + ".damaged"))
    if whole:
        _replace(file, whole)
    sync(file.parent)
    return f"kept {len(whole)} of {len(whole) + lost} corrections"


def now_utc() -> str:
    """The time of a correction that is made now."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _replace(file: Path, corrections: list[Correction]) -> None:
    draft = file.with_name(file.name + ".part")
    with draft.open("w") as stream:
        stream.writelines(correction.line() for correction in corrections)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, file)
    sync(file.parent)


def _digest(told: dict[str, object]) -> str:
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()
