"""The results of a campaign on disk: one line a measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from flexor.flywheel.campaign.cells import CampaignError
from flexor.flywheel.campaign.kinds import Scalar
from flexor.flywheel.line_file import LineFile, whole_lines


@dataclass(frozen=True, slots=True)
class Episode:
    """How one episode went: yes or no to each of `outcomes`, of which success is one."""

    task: str
    outcomes: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line: a slice of a cell, measured.

    Attributes:
        cell: the name it was measured under; results are found by what follows, so that cells can be renamed.
        kind, options: the command, and the options that tell results apart.
        bundle_hash: of the bundle that played; None when none did.
        first: number of the first episode in its cell; its seed is that of the cell plus this. Of a cell whose command
            chooses its episodes, the seed itself.
        n: episodes; 1 when nothing was played.
        tasks, task_of: names, and which of them each episode played; [] when nothing was played.
        outcomes: for each yes or no of an episode, such as success, a 1 or a 0 for every episode in their order.
        result: the rest of the command's JSON.
        command: what was typed.
        commit: the code that ran, as environment.source_commit names it.
        began: when, UTC, ISO 8601.
        seconds: how long it took.
        env: the environment, as flexor.runtime.environment tells it.
    """

    cell: str
    kind: str
    options: dict[str, Scalar]
    bundle_hash: str | None
    first: int
    n: int
    tasks: list[str]
    task_of: list[int]
    outcomes: dict[str, str]
    result: dict[str, Any]
    command: str
    commit: str | None
    began: str
    seconds: float
    env: dict[str, Any]

    @property
    def machine(self) -> str:
        """The machine it was measured on."""
        return machine(self.env)

    @property
    def shift_hash(self) -> str | None:
        """What the level of shift meant when it was measured; None when the command does not say."""
        return (self.result.get("shift") or {}).get("hash")

    def episodes(self) -> dict[int, Episode]:
        """Every episode by its number in the cell."""
        return {
            self.first + i: Episode(self.tasks[task], {key: bits[i] == "1" for key, bits in self.outcomes.items()})
            for i, task in enumerate(self.task_of)
        }


def machine(env: Mapping[str, Any]) -> str:
    """What of an environment decides how fast things are."""
    return f"{env['cpu']}, {env['cores']} cores, {env['gpu'] or 'no GPU'}"


_KEYS = tuple(field.name for field in fields(Measurement))


def read_measurements(path: Path) -> list[Measurement]:
    """Every whole line of a results file, oldest first; [] when there is no file. A line without an end is no result.

    Raises:
        CampaignError: the file cannot be read, or a whole line of it is no measurement.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CampaignError(f"{path} cannot be read: {error}") from error
    return _parsed(path, whole_lines(content))


class ResultsFile:
    """A LineFile of results; a context."""

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path, CampaignError)
        self.measurements: list[Measurement] = []

    def __enter__(self) -> ResultsFile:
        """Raises CampaignError when the file is in use, cannot be opened or cannot be read."""
        with ExitStack() as stack:
            self.measurements = _parsed(self._file.path, stack.enter_context(self._file).lines)
            stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def append(self, measurement: Measurement) -> None:
        """Add one line; when this returns, it is on the disk.

        Raises:
            CampaignError: see LineFile.append.
        """
        self._file.append(asdict(measurement))
        self.measurements.append(measurement)


def _parsed(path: Path, lines: Sequence[bytes]) -> list[Measurement]:
    return [_parse(path, number, line) for number, line in enumerate(lines, 1)]


def _parse(path: Path, number: int, line: bytes) -> Measurement:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise CampaignError(
            f"{path}, line {number} is not JSON: {error}; restore the file or delete the line"
        ) from error
    if not isinstance(data, dict) or sorted(data) != sorted(_KEYS):
        raise CampaignError(
            f"{path}, line {number} is no result; expected an object of {', '.join(_KEYS)}; delete the line"
        )
    measurement = Measurement(**data)
    lengths = {len(measurement.task_of), *map(len, measurement.outcomes.values())}
    if lengths not in ({0}, {measurement.n}):
        raise CampaignError(
            f"{path}, line {number} has {sorted(lengths)} outcomes of {measurement.n} episodes; delete the line"
        )
    return measurement
