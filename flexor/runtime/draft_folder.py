"""A folder made out of sight and moved to its name when it is whole; a draft whose maker was killed is swept away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flexor.runtime.disk import sync


@contextlib.contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """A new empty folder beside `target` that takes its name, safely on disk, when the block ends well.

    When the block raises, the draft is gone. When another process was faster and `target` is there already, that one
    stays: both must hold the same. The maker holds a lock on its draft, which ends with the process however it ends.

    Raises:
        OSError: the disk refuses.
    """
    draft, lock = _make(target)
    try:
        yield draft
        draft.chmod(0o755)  # as any folder, not as a temporary one
        for path in (*draft.rglob("*"), draft):
            sync(path)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(draft)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)  # what went wrong is told already
        raise
    finally:
        os.close(lock)


def sweep_drafts(parent: Path, name: str) -> list[Path]:
    """Remove the drafts of targets `parent`/`name` (a glob pattern) whose maker is gone, and return them.

    Raises:
        OSError: the disk refuses.
    """
    swept = []
    for draft in sorted(parent.glob(f".{name}-????????")):
        try:
            lock = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # it was finished or swept this moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if draft.exists():  # else its maker gave it its name and let go of it between the two lines above
                shutil.rmtree(draft)
                swept.append(draft)
        except BlockingIOError:
            continue  # its maker lives
        finally:
            os.close(lock)
    return swept


def _make(target: Path) -> tuple[Path, int]:
    while True:
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            lock = os.open(draft, os.O_RDONLY)
        except FileNotFoundError:
            continue  # swept before it had its lock
        with contextlib.suppress(BlockingIOError):  # being swept
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if draft.exists():
                return draft, lock
        os.close(lock)
