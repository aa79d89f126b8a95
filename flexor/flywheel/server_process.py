"""A policy server as a child process on an address of its own, gone when its context ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from flexor.errors import FlexorError
from flexor.runtime.child_process import end, end_with_parent

STOP_S = 10.0
LOG_TAIL_CHARS = 2000


class ServerProcess:
    """`flexor serve BUNDLE ARGUMENTS` in a private folder that holds its sockets and its log.

    It runs in its own session, so that Ctrl-C reaches only the parent, which ends its episode before it stops the
    server. On Linux the kernel stops the server when the parent dies without doing so.
    """

    def __init__(self, bundle: str, arguments: Sequence[str] = ()) -> None:
        self._bundle, self._arguments = bundle, tuple(arguments)
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its data address."""
        return f"ipc://{self._private_folder() / 'policy.sock'}"

    def __enter__(self) -> ServerProcess:
        self._folder = Path(tempfile.mkdtemp(prefix="flexor-"))
        command = [sys.executable, "-m", "flexor.cli.main", "serve", self._bundle, "--bind", self.address]
        command += self._arguments
        try:
            with self._log().open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=end_with_parent(),
                )
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            end(self._process, patience_s=STOP_S)
        self._remove()

    def check(self) -> None:
        """Raise FlexorError with the end of its log when it is not running any more."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            log = self._log().read_text(errors="replace")[-LOG_TAIL_CHARS:].strip()
            raise FlexorError(f"the policy server ended with code {code}: {log or 'it said nothing'}")

    def _remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _log(self) -> Path:
        return self._private_folder() / "server.log"

    def _private_folder(self) -> Path:
        if self._folder is None:
            raise FlexorError("the policy server was not started; use it in a with statement")
        return self._folder
