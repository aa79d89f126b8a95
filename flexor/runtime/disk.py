"""The disk: what was written there survives a power cut once it was forced there."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file's content, or a folder's entries (what was made, renamed and removed in it), to disk.

    Raises:
        OSError: there is no such path, or the disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
