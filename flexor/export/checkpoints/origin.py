"""Where a checkpoint comes from, by what lies in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flexor.export.checkpoints import lerobot, openpi, opentau
from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.recipe import Choices, Recipe, Source


@dataclass(frozen=True, slots=True)
class Origin:
    """How one project's checkpoints are known, and how their files are read."""

    tells_of: Callable[[Source], str | None]
    read: Callable[[Source, Choices], Recipe]


ORIGINS: Mapping[str, Origin] = {
    "openpi": Origin(openpi.tells_of, openpi.read),
    "lerobot": Origin(lerobot.tells_of, lerobot.read),
    "opentau": Origin(opentau.tells_of, opentau.read),
}


def find_origin(source: Source, given: str | None) -> str:
    """Key of ORIGINS: the given one, or the only one that the folder tells of.

    Raises:
        CheckpointError: an unknown name, or a folder that tells of none or of several.
    """
    if given is not None:
        if given not in ORIGINS:
            raise CheckpointError(f"--origin is {given!r}; expected one of {', '.join(ORIGINS)}")
        return given
    signs = {name: sign for name, origin in ORIGINS.items() if (sign := origin.tells_of(source)) is not None}
    if len(signs) == 1:
        return next(iter(signs))
    listed = ", ".join(f"{name} ({sign})" for name, sign in signs.items()) or "nothing"
    raise CheckpointError(
        f"{source.folder} tells of {listed}; say which it is with --origin {'|'.join(ORIGINS)}, and see that its JSON"
        " files were downloaded too"
    )
