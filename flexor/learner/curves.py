"""What a run measured, one JSON line a row, and the same numbers in TensorBoard and where else they are wanted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flexor.learner.trackers import TRACKERS


class Curves:
    """Appends rows to `folder/curves.jsonl`, `folder/tensorboard` and further trackers, from `step` on.

    Rows after `step` are dropped when it opens: they were written by a run that was killed before its next
    checkpoint and will be written again.
    """

    def __init__(self, folder: Path, step: int, trackers: Sequence[str] = ()) -> None:
        """`trackers`: keys of TRACKERS beside tensorboard."""
        self.path = folder / "curves.jsonl"
        kept = [row for row in read_curves(self.path) if row["step"] <= step]
        part = self.path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in kept))
        part.replace(self.path)
        self._file = self.path.open("a")
        self._trackers = [TRACKERS[name](folder, step) for name in ("tensorboard", *trackers)]

    def write(self, step: int, row: dict[str, float]) -> None:
        """Add a row of numbers by name, such as {"train/loss": 0.2}, after `step` optimiser steps."""
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.write(step, row)

    def close(self) -> None:
        """Write out what the trackers still hold and close everything."""
        self._file.close()
        for tracker in self._trackers:
            tracker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_curves(path: Path) -> list[dict[str, float]]:
    """The rows of a curves.jsonl, without a last line that a kill cut short; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
