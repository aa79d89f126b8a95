"""StageClock: how long a stage took, those seconds included that processes spent in it before they were killed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flexor.flywheel.online.stages import Stage

STAGE = "stage.json"
BEAT_S = 1.0


class StageClock:
    """Writes down once a second how long the present stage has taken; a killed process loses what came after that.

    Args:
        run: folder of the run; `stage.json` lies in it.
        beat_s: seconds between two writings.
    """

    def __init__(self, run: Path, beat_s: float = BEAT_S) -> None:
        self._file, self._beat_s = run / STAGE, beat_s

    @contextmanager
    def running(self, stage: Stage) -> Iterator[Callable[[], float]]:
        """While a stage is worked on; gives its seconds so far, those of earlier processes among them."""
        before, began = self._spent(stage), time.monotonic()

        def spent() -> float:
            return before + time.monotonic() - began

        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._beat_s):
                self._write(stage, spent())

        thread = threading.Thread(target=beat, name="flexor-stage-clock", daemon=True)
        thread.start()
        try:
            yield spent
        finally:
            ended.set()
            thread.join()
            self._write(stage, spent())

    def _spent(self, stage: Stage) -> float:
        """What is written of this stage; 0 of another, and of what cannot be read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(self._file.read_bytes())
            if (told["cycle"], told["verb"]) == (stage.cycle, stage.verb):
                return float(told["seconds"])
        return 0.0

    def _write(self, stage: Stage, seconds: float) -> None:
        """Whole or not at all. A disk that refuses costs seconds, and the stage is worth more than those."""
        draft = self._file.with_name(f".{STAGE}.part")
        with suppress(OSError):
            draft.write_text(json.dumps({"cycle": stage.cycle, "verb": stage.verb, "seconds": seconds}))
            os.replace(draft, self._file)
