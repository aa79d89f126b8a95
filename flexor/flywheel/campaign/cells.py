"""A campaign file (YAML) -> its cells, and the pairs of cells that are compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from flexor.errors import FlexorError
from flexor.flywheel.campaign.kinds import BUNDLE, EPISODES, KINDS, SEED, SKIP, Kind, Scalar
from flexor.runtime.inference.bundle import BUNDLE_JSON, file_sha256, find_bundle
from flexor.settings import load_settings
from flexor.sim.shift import table_hash, world_of

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


class CampaignError(FlexorError):
    """A campaign that cannot be run or told as it is written."""


class GroupSettings(BaseModel):
    """Cells that differ in the options of `matrix` alone: one for each combination of its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    kind: str
    options: dict[Name, Scalar] = {}
    matrix: dict[Name, Annotated[list[Scalar], Field(min_length=1)]] = {}
    baseline: dict[Name, Scalar] | str | None = None


class CampaignSettings(BaseModel):
    """What a campaign file says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: Annotated[list[GroupSettings], Field(min_length=1)]
    slice: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure to measure: a flexor command with its options.

    Attributes:
        name: of its group, and the values of its matrix.
        kind: its command.
        options: of the command, the bundle included.
        slice: at most so many episodes are played in one call; None plays all of them in one.
    """

    name: str
    kind: Kind
    options: dict[str, Scalar]
    slice: int | None

    @property
    def identity(self) -> dict[str, Scalar]:
        """What tells its results from those of other cells, besides bundle and episodes."""
        return self.kind.identity(self.options)

    @property
    def shift_hash(self) -> str | None:
        """What its level of shift means in the code as it is now; None without a shift."""
        shifted = self.kind.comparable and self.options.get("shift") not in (None, "none")
        return table_hash(world_of(str(self.options.get("sim", "tabletop")))) if shifted else None

    @property
    def seed(self) -> int:
        """Seed of its first episode; 0 for a cell that plays none."""
        return _whole(self, SEED, 0) if self.kind.plays else 0

    def slices(self) -> list[range]:
        """What is measured in one call each: the numbers of its episodes from 0 on; range(0) for one without any."""
        if not self.kind.plays:
            return [range(0)]
        numbers = range(_whole(self, EPISODES, 1))
        step = self.slice or len(numbers)
        return [numbers[start : start + step] for start in range(0, len(numbers), step)]

    def command(self, numbers: range) -> list[str]:
        """What stands after `flexor` to measure one slice."""
        if not self.kind.plays:
            return self.kind.arguments_of(self.options)
        part = {EPISODES: numbers.stop, SKIP: numbers.start or None}
        return self.kind.arguments_of({**self.options, **part})

    def bundle_hash(self) -> str | None:
        """The hash of its bundle as it is now, None for a cell without one. Whoever opens the bundle checks the rest.

        Raises:
            FlexorError: there is no such bundle.
        """
        if self.kind.bundle_hash is None:
            return None
        path = find_bundle(str(self.options[BUNDLE])) / BUNDLE_JSON
        try:
            return file_sha256(path)
        except OSError as error:
            raise CampaignError(f"{path} cannot be read ({error.strerror}); is {path.parent} a bundle?") from error


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign file, expanded.

    Attributes:
        name: the file's, without its ending.
        cells: in the order of the file.
        pairs: (arm, baseline) to be compared.
    """

    name: str
    cells: tuple[Cell, ...]
    pairs: tuple[tuple[Cell, Cell], ...]


def load_campaign(file: Path) -> Campaign:
    """Read and expand a campaign file.

    Raises:
        SettingsError: the file cannot be read, or a key or value of it is not one.
        CampaignError: cells that cannot be: an unknown kind, no seed, two of one name, a baseline that is no cell.
    """
    settings = load_settings(CampaignSettings, file)
    groups = [_expand(group, settings.slice) for group in settings.cells]
    cells = [cell for group in groups for cell in group]
    seen: set[str] = set()
    for cell in cells:
        if cell.name in seen:
            raise CampaignError(f"{file} has two cells {cell.name!r}; give each group a name of its own")
        seen.add(cell.name)
    pairs = [pair for group, its in zip(settings.cells, groups, strict=True) for pair in _pairs(group, its, cells)]
    return Campaign(file.stem, tuple(cells), tuple(pairs))


def _expand(group: GroupSettings, slice_: int | None) -> list[Cell]:
    if group.kind not in KINDS:
        raise CampaignError(f"cell {group.name!r} has kind {group.kind!r}; expected one of: {', '.join(KINDS)}")
    both = sorted(set(group.options) & set(group.matrix))
    if both:
        raise CampaignError(f"cell {group.name!r} has {both[0]!r} in options and in matrix; leave one of them out")
    cells = []
    for values in itertools.product(*group.matrix.values()):
        varied = dict(zip(group.matrix, values, strict=True))
        name = "/".join([group.name, *(f"{key}={_word(value)}" for key, value in varied.items())])
        cell = Cell(name, KINDS[group.kind], {**group.options, **varied}, slice_)
        for key in cell.kind.arguments:
            if not isinstance(cell.options.get(key), str):
                raise CampaignError(f"cell {name!r} needs the option {key!r}, which flexor {cell.kind.name} must have")
        if cell.kind.plays:
            _whole(cell, SEED, 0)
            _whole(cell, EPISODES, 1)
        cells.append(cell)
    return cells


def _pairs(group: GroupSettings, cells: list[Cell], every: list[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Each cell of a group with its baseline: a cell named anywhere in the file, or one of the group by its values."""
    if group.baseline is None:
        return
    for cell in cells:
        if isinstance(group.baseline, str):
            found = [other for other in every if other.name == group.baseline]
        else:
            wanted = {**cell.options, **group.baseline}
            found = [other for other in cells if other.options == wanted]
        if not found:
            raise CampaignError(
                f"the baseline {group.baseline!r} of {group.name!r} names no cell to compare {cell.name!r} with; give"
                " values of its matrix, or the name of a cell"
            )
        if not (cell.kind.comparable and found[0].kind.comparable):
            raise CampaignError(f"{group.name!r} has a baseline, but not both play episodes, which could be paired")
        if found[0] is not cell:
            yield cell, found[0]


def _whole(cell: Cell, name: str, least: int) -> int:
    value = cell.options.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CampaignError(
            f"cell {cell.name!r} needs the option {name!r}, a whole number of {least} or more; it is {value!r}"
        )
    return value


def _word(value: Scalar) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
