"""WireServer: a silent policy behind one wire, in a process of its own that ends with its parent.

Run as a program (`python -m ... WIRE FOLDER`) it writes its address as one line and serves until its standard input
ends.
"""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from types import TracebackType

from flexor.errors import FlexorError
from flexor.runtime.child_process import await_end, end
from flexor.runtime.timing.wires.silent_policy import SilentPolicy
from flexor.runtime.timing.wires.wire import WIRES

START_S = 60.0
STOP_S = 15.0


class WireServer:
    """A context in which a server of `wire` (a name in WIRES) runs; its `address` is where."""

    def __init__(self, wire: str) -> None:
        self._wire = wire
        self.address = ""

    def __enter__(self) -> WireServer:
        self._folder = tempfile.TemporaryDirectory(prefix="flexor-")
        self._said = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "flexor.runtime.timing.wires.wire_server", self._wire, self._folder.name]
        # In a session of its own: Ctrl-C is for the parent, whose end closes the server's standard input.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True
        )
        try:
            self.address = self._first_line()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _first_line(self) -> str:
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline() if select.select([pipe], [], [], START_S)[0] else b""
        if not line.endswith(b"\n"):
            end(self._process, patience_s=STOP_S)
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise FlexorError(f"the {self._wire} server did not start within {START_S:g} s; it said: {said[-1]}")
        return line.decode().strip()

    def _stop(self) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        await_end(process, patience_s=STOP_S)
        process.stdout.close()
        self._said.close()
        self._folder.cleanup()


def main(wire: str, folder: str) -> None:
    """Serve until standard input ends."""
    with WIRES[wire].serve(SilentPolicy(), folder) as address:
        print(address, flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
