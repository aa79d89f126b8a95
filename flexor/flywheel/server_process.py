"""A policy server as a child process on an address of its own, gone when its context ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from flexor.errors import FlexorError
from flexor.runtime.child_process import end, end_with_parent
from flexor.runtime.serving.channel import ServerRefused, ServerTimeout
from flexor.runtime.serving.control import ServerControl

START_LIMIT_S = 180.0  # a cold start reads torch from disk, on a machine that may be busy
STOP_S = 10.0
ASK_S, ASK_EVERY_S = 1.0, 0.2
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

    def wait_ready(self, limit_s: float, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until it answers requests and takes orders; False when it was stopped before.

        Raises:
            FlexorError: it ended, or is not ready after `limit_s`.
        """
        deadline, trouble = time.monotonic() + limit_s, "it is still warming up"
        with ServerControl(self.address, ASK_S) as control:
            while time.monotonic() < deadline:
                self.check()
                if stopped():
                    return False
                try:
                    if control.stats()["ready"]:
                        return True
                except (ServerTimeout, ServerRefused) as error:
                    trouble = str(error)
                time.sleep(ASK_EVERY_S)
        raise FlexorError(f"the policy server is not ready after {limit_s:g} s ({trouble}); see {self._log()}")

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
