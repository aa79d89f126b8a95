"""A training run on disk: one safetensors file, replaced atomically, from which the run goes on as if undisturbed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from flexor.errors import FlexorError
from flexor.runtime.disk import sync

SCHEMA_VERSION = 1


class CheckpointError(FlexorError):
    """The checkpoint cannot be read, or belongs to another run."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stands after `step` optimiser steps.

    Random numbers and the sample order are functions of (seed, step), so the step is all there is to keep of them;
    where what is drawn also follows the losses, `drawing` has those.

    Attributes:
        step: optimiser steps made.
        seconds: wall time used so far.
        losses: of the steps since the last row of the curves.
        identity: what the run is: settings and data; a run with another identity refuses it.
        tensors: `trained/...` (model and foresight), `average/...` and `optimiser/...`.
        drawing: what the drawing of samples goes by besides seed and step, as JSON has it.
    """

    step: int
    seconds: float
    losses: tuple[float, ...]
    identity: dict[str, object]
    tensors: dict[str, Tensor]
    drawing: dict[str, Any] = field(default_factory=dict)

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names start with `name/`, without it."""
        start = f"{name}/"
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write beside `path`, fsync, rename: a kill at any moment leaves the old file or the new one."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "losses": checkpoint.losses,
        "drawing": checkpoint.drawing,
    }
    metadata = {"run": json.dumps(header), "identity": json.dumps(checkpoint.identity, sort_keys=True)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(save(tensors, metadata))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync(path.parent)


def read_checkpoint(path: Path, identity: dict[str, object]) -> Checkpoint:
    """Read the checkpoint of a run that is `identity`.

    Raises:
        CheckpointError: the file is damaged, of another version, or of another run.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a handle, not a dict)
        header = json.loads(metadata["run"])
        theirs = json.loads(metadata["identity"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is no checkpoint ({error}); remove {path.parent} to start anew") from error
    if header["schema_version"] != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path} has schema version {header['schema_version']}, this flexor reads {SCHEMA_VERSION}; "
            f"remove {path.parent} to start anew"
        )
    for key in sorted(theirs.keys() | identity.keys()):
        if theirs.get(key) != identity.get(key):
            raise CheckpointError(
                f"{path} belongs to another run: {key} was {theirs.get(key)!r} and is now {identity.get(key)!r}; "
                f"set it back, or remove {path.parent} to start anew"
            )
    losses, drawing = tuple(header["losses"]), header.get("drawing", {})
    return Checkpoint(header["step"], header["seconds"], losses, theirs, tensors, drawing)
