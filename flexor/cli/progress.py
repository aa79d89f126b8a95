"""How far a command is: a bar on a terminal, a line now and then elsewhere, always on standard error."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from flexor.cli.report import progress_console

LINE_EVERY_S = 10.0


class Progress:
    """One thing after another that takes a while. Use it as a context; `update` says where the present thing stands."""

    def __init__(self) -> None:
        self._on_terminal = progress_console.is_terminal
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=progress_console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed_s = 0.0

    def update(self, what: str, done: float, total: float, note: str = "") -> None:
        """`done` of `total` of `what` are behind us; `note` says more."""
        if not self._on_terminal:
            self._print(what, done, total, note)
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, note="")
        self._bars.update(self._tasks[what], completed=done, total=total, note=note)

    def _print(self, what: str, done: float, total: float, note: str) -> None:
        now = time.monotonic()
        if now - self._printed_s < LINE_EVERY_S and done < total:
            return
        self._printed_s = now
        progress_console.print(f"{what}: {100 * done / total:.0f} %  {note}".rstrip(), highlight=False)

    def __enter__(self) -> Progress:
        if self._on_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._on_terminal:
            self._bars.stop()
