"""PacedLearner: a learner in a process of its own that works as it is told: not at all, in a server's slack, or freely.

Run as a program it reads from its standard input one line of JSON {bundle, episodes, out, settings, address}, then a
pace a line; it tells on its standard output, one line of JSON each, that it learns, and each pace once it keeps to it.
It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.errors import FlexorError
from flexor.runtime.child_process import await_end

PACES: tuple[str, ...] = ("alone", "slack", "free")
"""The server is left alone; the learner works in its slack; it asks nobody."""
START_S = 600.0  # until it learns: torch from disk, and every frame of the episodes
OBEY_S = 60.0  # until the micro-batch under way is over
STOP_S = 60.0
LOOK_EVERY_S = 0.02


class PacedLearner:
    """A context in which a learner runs, at the lowest priority, freely at first.

    Args:
        bundle: folder of the bundle.
        episodes: that it learns from.
        out: where its work lies.
        settings: of LoraSettings, plain values; with a budget that does not end.
        address: of the server whose slack it asks for.
    """

    def __init__(self, bundle: Path, episodes: Path, out: Path, settings: dict[str, Any], address: str) -> None:
        self._setting = {"bundle": str(bundle), "episodes": str(episodes), "out": str(out)}
        self._setting |= {"settings": settings, "address": address}

    def __enter__(self) -> PacedLearner:
        self._said = tempfile.TemporaryFile()
        # In a session of its own: Ctrl-C is for the parent, whose end closes the learner's standard input.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flexor.flywheel.timing.paced_learner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            start_new_session=True,
        )
        try:
            self._write(json.dumps(self._setting))
            self._read("learning", START_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        await_end(self._process, patience_s=STOP_S)
        self._process.stdout.close()
        self._said.close()

    def keep_to(self, pace: str) -> int:
        """Let it work at one of PACES; the number of micro-batches it is done with, once it does so.

        Raises:
            FlexorError: it ended, or did not obey in time.
        """
        self._write(pace)
        return self._read(pace, OBEY_S)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended") from None

    def _read(self, what: str, limit_s: float) -> int:
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline() if select.select([pipe], [], [], limit_s)[0] else b""
        told = json.loads(line) if line.endswith(b"\n") else {}
        if told.get("told") != what:
            raise self._failure(f"did not tell {what!r} within {limit_s:g} s")
        return told["works"]

    def _failure(self, what: str) -> FlexorError:
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
        return FlexorError(f"the learner beside the server {what}; it said: {said[-1]}")


class Pace:
    """A learner's pause, in that process: keeps to the last pace that was read.

    Args:
        tell: hears (what, micro-batches done).
    """

    def __init__(self, tell: Callable[[str, int], None]) -> None:
        self.slack: Callable[[], None] = lambda: None
        self._tell, self._works, self._learns = tell, 0, False
        self._orders: tuple[int, str] = (
            0,
            "free",
        )  # how many came, and the last; "" once there is nothing more to read
        self._kept = self._orders

    def want(self, pace: str) -> None:
        """From the next micro-batch on; any thread may call it."""
        self._orders = (self._orders[0] + 1, pace)

    def changed(self) -> bool:
        """Whether there is an order that is not kept yet."""
        return self._orders != self._kept

    def learning(self) -> None:
        """A step was made; the first one is told."""
        if not self._learns:
            self._learns = True
            self._tell("learning", self._works)

    def __call__(self) -> None:
        """Wait as the pace has it.

        Raises:
            LearningStopped: nothing more is wanted.
        """
        from flexor.learner.lora.trainer import LearningStopped

        while True:
            if self.changed():
                self._kept = self._orders
                if not self._kept[1]:
                    raise LearningStopped
                self._tell(self._kept[1], self._works)
            if self._kept[1] == "slack":
                self.slack()
            if self._kept[1] == "alone":
                time.sleep(LOOK_EVERY_S)
            elif not self.changed():
                self._works += 1
                return


def main() -> None:
    """Learn as standard input says, until there is no more of it."""
    from flexor.learner.lora.learn import LearnWatcher, learn
    from flexor.learner.lora.settings import LoraSettings
    from flexor.learner.lora.trainer import LearningStopped
    from flexor.learner.lowest_priority import give_way
    from flexor.learner.slack import ServerSlack
    from flexor.runtime.inference.bundle import Bundle

    setting = json.loads(sys.stdin.readline())
    give_way()
    pace = Pace(lambda what, works: print(json.dumps({"told": what, "works": works}), flush=True))

    def read() -> None:
        for line in sys.stdin:
            pace.want(line.strip())
        pace.want("")

    threading.Thread(target=read, name="flexor-pace", daemon=True).start()
    watcher = LearnWatcher(lambda done, total: None, lambda standing: pace.learning())
    with ServerSlack(setting["address"], lambda text: print(text, file=sys.stderr), stop=pace.changed) as slack:
        pace.slack = slack
        with suppress(LearningStopped):
            learn(
                Bundle.open(setting["bundle"]),
                Path(setting["episodes"]),
                Path(setting["out"]),
                LoraSettings.model_validate(setting["settings"]),
                watcher,
                pause=pace,
            )


if __name__ == "__main__":
    main()
