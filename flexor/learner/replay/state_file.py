"""A state that survives its process: one JSON file with its version and its digest, replaced whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flexor.learner.replay.replay_error import ReplayError
from flexor.runtime.disk import sync


def write_state(path: Path, version: int, state: Mapping[str, Any]) -> None:
    """Replace `path`; it is on disk when this returns, and a process that is killed in here leaves what was there.

    Raises:
        ReplayError: a number that is not finite, or the disk refuses.
    """
    draft = path.with_name(path.name + ".part")
    try:
        body = json.dumps(dict(state), sort_keys=True, allow_nan=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w") as stream:
            stream.write(json.dumps({"version": version, "digest": _digest(body), "state": json.loads(body)}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
        sync(path.parent)
    except (OSError, ValueError) as error:
        raise ReplayError(f"cannot keep {path}: {error}; free the disk or mend its permissions") from error


def read_state(path: Path, version: int) -> dict[str, Any]:
    """What write_state wrote.

    Raises:
        ReplayError: it is not there, not whole, or of another version.
    """
    try:
        told = json.loads(path.read_text())
        if told["version"] != version:
            raise ValueError(f"its version is {told['version']}, this flexor reads {version}")
        if told["digest"] != _digest(json.dumps(told["state"], sort_keys=True)):
            raise ValueError("its digest does not fit")
        return told["state"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReplayError(f"{path} does not read ({type(error).__name__}: {error}); delete it to begin anew") from error


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
