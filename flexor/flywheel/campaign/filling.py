"""Fills what is missing of a campaign within some minutes, one slice after another."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.campaign.cells import Campaign, CampaignError, Cell
from flexor.flywheel.campaign.child_command import run_command
from flexor.flywheel.campaign.results_file import Measurement, ResultsFile, machine
from flexor.flywheel.campaign.standing import SUCCESS, Standing
from flexor.runtime.environment import environment, source_commit


@dataclass(frozen=True, slots=True)
class Failure:
    """A slice that gave no result; exit_code is None when no command was run."""

    cell: str
    command: str
    exit_code: int | None
    error: str


@dataclass(slots=True)
class Filled:
    """What a run came to.

    Attributes:
        measured: slices that were added.
        failures: one for each cell that failed; the rest of such a cell was not tried.
        postponed: cells with a slice that would not have been done in time, by what one took before.
        missing: slices that are not there yet.
    """

    measured: int = 0
    failures: list[Failure] = field(default_factory=list)
    postponed: list[str] = field(default_factory=list)
    missing: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far it is.

    Attributes:
        progress: slices that are there, slices in all, and what goes on.
        finished: a line on each slice that ended.
    """

    progress: Callable[[int, int, str], None] = lambda done, total, note: None
    finished: Callable[[str], None] = lambda line: None


class Filling:
    """One run of a campaign."""

    def __init__(self, campaign: Campaign, results: ResultsFile, until_s: float, listener: Listener) -> None:
        """`results` is open; `until_s` is on time.monotonic()."""
        self._campaign, self._results, self._until_s, self._listener = campaign, results, until_s, listener
        self._machine = machine(environment())
        self._hashes: dict[str, str | None] = {}
        self._total = sum(len(cell.slices()) for cell in campaign.cells)
        self._filled = Filled()

    def run(self) -> Filled:
        """Measure slice after slice in the order of the file, until all are there or the time is up."""
        for cell in self._campaign.cells:
            try:
                self._hashes[cell.name] = cell.bundle_hash()
            except FlexorError as error:
                self._fail(Failure(cell.name, "", None, str(error)))
        for cell in self._campaign.cells:
            if cell.name in self._hashes:
                self._fill(cell)
        self._filled.missing = self._missing()
        self._listener.progress(self._total - self._filled.missing, self._total, "")
        return self._filled

    def _fill(self, cell: Cell) -> None:
        for numbers in self._standing(cell).missing():
            left_s = self._until_s - time.monotonic()
            expected_s = self._standing(cell).expected_s(numbers)
            if left_s <= 0:
                return
            if expected_s is not None and expected_s > left_s:
                self._filled.postponed.append(cell.name)
                line = (
                    f"{cell.name}: left for later, a slice takes about {expected_s:.0f} s and {left_s:.0f} s are left"
                )
                self._listener.finished(line)
                return
            if not self._measure(cell, numbers):
                return

    def _measure(self, cell: Cell, numbers: range) -> bool:
        """Whether there is a result."""
        what = f"{cell.name} {slice_name(cell, numbers)}".rstrip()
        done = self._total - self._missing()
        self._listener.progress(done, self._total, what)
        began, began_s, commit = datetime.now(UTC), time.monotonic(), source_commit()
        arguments = cell.command(numbers)
        command = shlex.join(["flexor", *arguments])

        def watch(line: str) -> None:
            self._listener.progress(done, self._total, f"{what}  {line}".rstrip())

        ended = run_command(arguments, self._until_s, watch)
        seconds = time.monotonic() - began_s
        if ended.result is None:
            if ended.exit_code is None:
                self._listener.finished(f"{what}: ended after {seconds:.0f} s, the time is up; nothing is kept of it")
            else:
                self._fail(Failure(cell.name, command, ended.exit_code, ended.error))
            return False
        try:
            measurement = Measurement(
                cell=cell.name,
                kind=cell.kind.name,
                options=cell.identity,
                bundle_hash=_same_bundle(cell, self._hashes[cell.name], ended.result),
                **_episodes(cell, numbers, ended.result),
                result=cell.kind.kept(ended.result),
                command=command,
                commit=commit,
                began=began.isoformat(timespec="seconds"),
                seconds=round(seconds, 3),
                env=ended.result["env"],
            )
        except CampaignError as error:
            self._fail(Failure(cell.name, command, ended.exit_code, str(error)))
            return False
        self._results.append(measurement)
        self._filled.measured += 1
        successes = measurement.outcomes.get(SUCCESS, "")
        told = f": {successes.count('1')} of {len(successes)} succeeded" if successes else ""
        self._listener.finished(f"{what}{told}, {seconds:.0f} s")
        return True

    def _standing(self, cell: Cell) -> Standing:
        return Standing.of(cell, self._hashes[cell.name], self._results.measurements, self._machine)

    def _missing(self) -> int:
        """Slices that are not there; all of a cell whose bundle is not there."""
        return sum(
            len(self._standing(cell).missing() if cell.name in self._hashes else cell.slices())
            for cell in self._campaign.cells
        )

    def _fail(self, failure: Failure) -> None:
        self._filled.failures.append(failure)
        code = "" if failure.exit_code is None else f" with exit code {failure.exit_code}"
        self._listener.finished(f"{failure.cell}: failed{code}: {failure.error}")


def fill(campaign: Campaign, results: Path, minutes: float, listener: Listener) -> Filled:
    """Fill missing slices of `campaign` into the file `results`. A slice under way when the time is up is lost.

    Raises:
        CampaignError: another run fills the file, it is damaged, or the disk refuses.
    """
    until_s = time.monotonic() + 60.0 * minutes
    with ResultsFile(results) as opened:
        return Filling(campaign, opened, until_s, listener).run()


def slice_name(cell: Cell, numbers: range) -> str:
    """The seeds of a slice, for people; "" for a cell without episodes."""
    if not numbers:
        return ""
    first, last = cell.seed + numbers.start, cell.seed + numbers.stop - 1
    return f"seeds {first}-{last}" if last > first else f"seed {first}"


def _same_bundle(cell: Cell, expected: str | None, result: dict[str, Any]) -> str | None:
    """The hash of the bundle that was measured. Raises CampaignError when it is not the one that was there before."""
    found = None if cell.kind.bundle_hash is None else result.get(cell.kind.bundle_hash)
    if found != expected:
        raise CampaignError(f"the bundle changed while it was measured: its hash was {expected}, and is {found}")
    return expected


def _episodes(cell: Cell, numbers: range, result: dict[str, Any]) -> dict[str, Any]:
    """first, n, tasks, task_of and outcomes of a Measurement.

    Raises:
        CampaignError: other episodes were played than asked, or their seeds do not follow each other.
    """
    rows: Sequence[dict[str, Any]] = result.get("rows", []) if cell.kind.comparable else []
    seeds: list[Any] = [row.get("seed") for row in rows]
    if cell.kind.plays and seeds != [cell.seed + number for number in numbers]:
        raise CampaignError(f"asked for {slice_name(cell, numbers)}, but its JSON has rows of the seeds {seeds}")
    if not rows:
        return {"first": numbers.start, "n": 1, "tasks": [], "task_of": [], "outcomes": {}}
    first = numbers.start if cell.kind.plays else seeds[0]
    if cell.kind.paired and seeds != list(range(first, first + len(rows))):
        raise CampaignError(f"its JSON has rows of the seeds {seeds}; expected each one more than the one before")
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    yes_or_no = [key for key in rows[0] if all(isinstance(row.get(key), bool) for row in rows)]
    return {
        "first": first,
        "n": len(rows),
        "tasks": tasks,
        "task_of": [tasks.index(row["task"]) for row in rows],
        "outcomes": {key: "".join("1" if row[key] else "0" for row in rows) for key in yes_or_no},
    }
