"""A flexor command in a child process, ended when its time is up or when its parent ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexor.runtime.child_process import end, end_with_parent

POLL_S = 0.5
STOP_S = 10.0
LOG_TAIL_BYTES = 4000
LINE_COLUMNS = "500"  # what it tells of its progress stays on one line


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        result: its JSON, None when there is none.
        exit_code: negative for a signal; None when its time was up.
        error: the last it said when there is no result.
    """

    result: dict[str, Any] | None
    exit_code: int | None
    error: str


def run_command(arguments: Sequence[str], until_s: float, watch: Callable[[str], None]) -> Ended:
    """Run `flexor ARGUMENTS --json FILE` as a user would type it, in this folder and with this environment.

    Args:
        arguments: the command's words and options.
        until_s: on time.monotonic(); a command that is not done then is ended, with all it has started.
        watch: told the last line of its progress, twice a second.
    """
    with tempfile.TemporaryDirectory(prefix="flexor-campaign-") as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        command = [sys.executable, "-m", "flexor.cli.main", *arguments, "--json", str(result)]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env={**os.environ, "COLUMNS": LINE_COLUMNS},
                start_new_session=True,  # Ctrl-C is for us; we end it with all of its workers
                preexec_fn=end_with_parent(),
            )
        try:
            code = _wait(process, until_s, lambda: watch(_last_line(log)))
        finally:
            end(process, patience_s=STOP_S)
        if code is None:
            return Ended(None, None, "its time was up")
        if code != 0:
            return Ended(None, code, _last_line(log).removeprefix("error: ") or "it said nothing")
        try:
            written = json.loads(result.read_bytes())
        except (OSError, ValueError) as error:
            return Ended(None, code, f"it wrote no JSON that can be read: {error}")
        if not isinstance(written, dict) or "env" not in written:
            return Ended(None, code, "it wrote JSON without an `env`; write it with flexor.cli.report.write_json")
        return Ended(written, code, "")


def _wait(process: subprocess.Popen[bytes], until_s: float, watch: Callable[[], None]) -> int | None:
    """The exit code, or None when the time was up before."""
    while True:
        left_s = until_s - time.monotonic()
        try:
            return process.wait(max(0.0, min(POLL_S, left_s)))
        except subprocess.TimeoutExpired:
            if left_s <= 0:
                return None
        watch()


def _last_line(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
