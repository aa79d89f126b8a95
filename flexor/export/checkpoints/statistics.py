"""Statistics of state and actions: from a file of the user's, and cut to the robot that they must be of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.recipe import Quantity
from flexor.export.checkpoints.weight_files import read_json
from flexor.pi05.normalize import PAIRS, Mode, NormStats

QUANTITIES = ("state", "actions")


def build_stats(where: str, mode: Mode, values: Mapping[str, Any]) -> NormStats:
    """Statistics from arrays by name; names beyond PAIRS and pairs that are not whole are left alone.

    Args:
        where: names the quantity and its file in errors.
        mode: whose pair must be there.
        values: arrays or lists by statistic.

    Raises:
        CheckpointError: the mode's pair is missing or malformed.
    """
    if missing := [name for name in PAIRS[mode] if values.get(name) is None]:
        raise CheckpointError(
            f"{where} lack {', '.join(missing)}, which normalisation {mode!r} needs; without them nothing would be"
            " normalised: give the statistics of its training data with --stats FILE"
        )
    whole = {
        name: np.asarray(values[name], dtype=np.float64)
        for pair in PAIRS.values()
        if all(values.get(name) is not None for name in pair)
        for name in pair
    }
    try:
        return NormStats(**whole)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}; give the right ones with --stats FILE") from error


def read_stats_file(path: Path, modes: Mapping[str, Mode]) -> dict[str, NormStats]:
    """Statistics in the form of openpi's norm_stats.json; it may hold min and max beside mean, std, q01 and q99.

    Raises:
        CheckpointError: unreadable, a quantity missing, or without what its mode needs.
    """
    data = read_json(path)
    data = data.get("norm_stats", data)
    if not isinstance(data, dict) or not all(isinstance(data.get(name), dict) for name in QUANTITIES):
        raise CheckpointError(f"{path} has no statistics of state and actions; expected openpi's norm_stats.json")
    return {name: build_stats(f"{path}: statistics of {name}", modes[name], data[name]) for name in QUANTITIES}


def cut_stats(quantity: Quantity, dim: int, padded: int, what: str, robot: str) -> NormStats:
    """The statistics of the robot's own channels.

    Args:
        quantity: as the checkpoint has it.
        dim: channels of the robot.
        padded: width to which the checkpoint may have padded them with constant channels.
        what: "state" or "actions".
        robot: its name.

    Raises:
        CheckpointError: they are of another robot.
    """
    found = quantity.stats
    if found.dim == dim:
        return found
    way_out = "they are another robot's: name that one with --robot, or give statistics of this one with --stats"
    if found.dim != padded or found.dim < dim:
        raise CheckpointError(f"statistics of {what} have {found.dim} channels and robot {robot} {dim}; {way_out}")
    first, second = (getattr(found, name)[dim:] for name in PAIRS[quantity.mode])
    moves = np.flatnonzero((second if quantity.mode == "mean_std" else second - first) > 1e-6)
    if moves.size:
        raise CheckpointError(
            f"statistics of {what} are padded to {padded}, but channel {dim + int(moves[0])} moves too and robot"
            f" {robot} has {dim}; {way_out}"
        )
    return found.first(dim)
