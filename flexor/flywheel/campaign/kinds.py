"""Kinds of cells: which command measures one, what of its options names the result, and what of its JSON is kept."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Scalar = bool | int | float | str | None
"""The value of an option; True and False become --option and --no-option, None leaves the option out."""

BUNDLE, SETTING = "bundle", "setting"
SEED, EPISODES, SKIP = "seed", "episodes", "skip"
"""Which episodes a command plays; a campaign sets the last two for each slice."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of cell is called and read.

    Attributes:
        name: words of the command after `flexor`.
        arguments: options that the command takes as arguments, in their order.
        plays: it plays --episodes episodes from --seed on, less the first --skip of them, and its JSON has `rows` with
            the seed, task and success of each; such a cell may be measured in slices.
        paired: it plays episodes of its own choice, with consecutive seeds, and its JSON has `rows` of them as above;
            such a cell is measured in one call.
        bundle_hash: the key of its JSON that names the bundle by its hash; None when it needs no bundle.
        unimportant: options that cannot change the result.
        timed: its numbers are times, which belong to the machine they were taken on.
        shown: keys of its JSON that a table shows, besides success.
    """

    name: str
    arguments: tuple[str, ...] = ()
    plays: bool = False
    paired: bool = False
    bundle_hash: str | None = None
    unimportant: tuple[str, ...] = ()
    timed: bool = False
    shown: tuple[str, ...] = ()

    def arguments_of(self, options: Mapping[str, Scalar]) -> list[str]:
        """What stands after `flexor` on the command line for these options."""
        words = self.name.split()
        for name in self.arguments:
            words += shlex.split(str(options[name])) if name == SETTING else [str(options[name])]
        for name, value in options.items():
            if name not in self.arguments:
                words += _option(name, value)
        return words

    def identity(self, options: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The options that tell two results apart. A bundle counts by its hash, episodes by their number in the row.

        The first seed is one of them: which task an episode plays depends on its number, not on its seed.
        """
        left_out = {BUNDLE, EPISODES, *self.unimportant}
        return {name: value for name, value in options.items() if name not in left_out and value is not None}

    @property
    def comparable(self) -> bool:
        """Whether arms of it can be compared: they play episodes that are told one by one."""
        return self.plays or self.paired

    def kept(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What of a command's JSON a result line keeps: the environment and the episodes have places of their own."""
        left_out = {"env", "rows", "tasks", SEED, EPISODES} if self.plays else {"env", *(("rows",) * self.paired)}
        return {name: value for name, value in result.items() if name not in left_out}


def _option(name: str, value: Scalar) -> list[str]:
    dashed = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    return [f"--{dashed}", str(value)]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "eval",
            arguments=(BUNDLE,),
            plays=True,
            bundle_hash="bundle_hash",
            unimportant=("workers", "log"),
            shown=("entropy_bits_mean",),
        ),
        Kind("oracle", plays=True, unimportant=("workers",)),
        Kind(
            "bench capacity",
            arguments=(BUNDLE,),
            plays=True,
            bundle_hash="bundle_hash",
            unimportant=("workers", "work"),
            shown=("trained", "loss_before", "loss_after"),
        ),
        Kind(
            "flywheel",
            arguments=(SETTING,),
            paired=True,
            bundle_hash="bundle_hash",
            unimportant=("out",),
            shown=("forgetting_points", "episodes", "wall_minutes"),
        ),
        Kind(
            "bench latency",
            arguments=(BUNDLE,),
            bundle_hash="hash",
            timed=True,
            shown=("p50_ms", "p95_ms", "p99_ms", "entropy_reply_ratio"),
        ),
    )
}
"""By name. A new kind needs a line here and nothing else, as long as its command has --json."""
