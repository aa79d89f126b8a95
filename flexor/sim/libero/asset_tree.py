"""An asset tree on disk: unpacked once and whole, checked for its parts, and its hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PARTS = (
    "articulated_objects",
    "scenes",
    "stable_hope_objects",
    "stable_scanned_objects",
    "textures",
    "turbosquid_objects",
    "serving_region.xml",
    "wall.xml",
)
"""What every asset tree of LIBERO has at its root."""

_PREFIX = ".unpacking-"
_ABANDONED_S = 3600.0


def missing_parts(folder: Path) -> list[str]:
    """Names of PARTS that are not there, or are empty."""
    return [part for part in PARTS if not _has_content(folder / part)]


def unpack(archive: Path, into: Path) -> Path:
    """The folder that holds what is in a tar file, unpacked under `into` the first time.

    It appears whole or not at all: a killed unpacking leaves only a hidden folder, which a later one removes.

    Raises:
        OSError: the archive is no tar file or is cut off, or the disk refused.
    """
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    target = into / key
    if target.is_dir():
        return target
    into.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(into)
    fresh = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=into))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(fresh, filter="data")
        fresh.rename(target)
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if target.is_dir():  # another process was faster
            return target
        raise OSError(f"{archive} cannot be unpacked into {into}: {error}") from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return target


def tree_hash(folder: Path, cache: Path) -> str:
    """sha256 over the relative paths and contents of all files, hidden ones left out.

    Reading them takes a second: the result is kept in `cache` for as long as no file's size or time changes.
    """
    files = sorted(_files(folder))
    stats = [(path, path.stat()) for path in files]
    seen = hashlib.sha256(str(folder.resolve()).encode())
    for path, stat in stats:
        seen.update(f"\n{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}".encode())
    kept = cache / seen.hexdigest()[:32]
    if kept.exists():
        return kept.read_text()
    digest = hashlib.sha256()
    for path in files:
        digest.update(
            f"{path.relative_to(folder).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    cache.mkdir(parents=True, exist_ok=True)
    fresh = cache / f".{os.getpid()}"
    fresh.write_text(digest.hexdigest())
    fresh.replace(kept)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _has_content(path: Path) -> bool:
    if path.is_dir():
        return next(path.iterdir(), None) is not None
    return path.is_file() and path.stat().st_size > 0


def _remove_abandoned(into: Path) -> None:
    """What unpackings that were killed left behind."""
    for path in into.glob(f"{_PREFIX}*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)
