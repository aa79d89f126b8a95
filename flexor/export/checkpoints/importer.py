"""A checkpoint folder in, a bundle out: everything is planned and checked before the first weight is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.names import NamePlan, plan_names
from flexor.export.checkpoints.origin import ORIGINS, find_origin
from flexor.export.checkpoints.recipe import Choices, Recipe, Source
from flexor.export.checkpoints.sizes import check_shapes, expected_shapes, measure_sizes
from flexor.export.checkpoints.statistics import cut_stats
from flexor.export.checkpoints.target_robot import TargetRobot, find_robot
from flexor.export.checkpoints.tokenizer_files import find_tokenizer, load_tokenizer
from flexor.export.checkpoints.weight_files import find_tensors
from flexor.export.checkpoints.weight_stream import Written, choose_dtype, write_weights
from flexor.pi05.normalize import NormStats
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.bundle_writer import write_bundle

DTYPES = ("source", "bf16")
SPARE_BYTES = 64 << 20  # tokenizer, statistics and what a file system needs for itself
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import will write.

    Attributes:
        origin: key of ORIGINS.
        recipe: what the checkpoint's files tell.
        names: what becomes of every stored tensor.
        slots: image slot -> robot camera, or None for one that is left out.
        config: bundle.json, but for the hashes.
        tensors: of the weight file.
        stats: of "state" [S] and "actions" [A].
        tokenizer: the file it comes from.
        tokenizer_json: content of tokenizer.json.
    """

    origin: str
    recipe: Recipe
    names: NamePlan
    slots: Mapping[str, str | None]
    config: BundleConfig
    tensors: tuple[Written, ...]
    stats: Mapping[str, NormStats]
    tokenizer: Path
    tokenizer_json: str

    @property
    def nbytes(self) -> int:
        """Size of the weight file."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """The plan for a JSON file."""
        return {
            "origin": self.origin,
            "bundle": self.config.to_dict(),
            "parameters": self.config.model.parameter_count(),
            "bytes": self.nbytes,
            "slots": dict(self.slots),
            "kept": {ours: theirs for ours, theirs in sorted(self.names.kept.items())},
            "dropped": dict(self.names.dropped),
            "norm_stats": {name: stats.to_dict() for name, stats in self.stats.items()},
            "tokenizer": self.tokenizer.name,
            "notes": list(self.recipe.notes),
        }


def plan_import(
    checkpoint: Path,
    name: str,
    robot: str = "libero",
    tokenizer: Path | None = None,
    dtype: str = "source",
    choices: Choices | None = None,
) -> ImportPlan:
    """Read headers and JSON files, and decide everything; no weight is read.

    Args:
        checkpoint: folder of the checkpoint.
        name: of the bundle.
        robot: name or file of the robot it is to drive.
        tokenizer: file or folder of PaliGemma's tokenizer; None looks into the checkpoint's folder.
        dtype: one of DTYPES.
        choices: what the user says beside the files.

    Raises:
        CheckpointError: anything about it that a bundle cannot be made of.
        BundleError: a name that no bundle can have.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"--dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    choices = choices or Choices()
    tensors = find_tensors(checkpoint)
    names = plan_names(tensors)
    source = Source(checkpoint, tensors)
    origin = find_origin(source, choices.origin)
    recipe = ORIGINS[origin].read(source, choices)
    if choices.pad_state and not recipe.prompt_state:
        raise CheckpointError("--pad-state pads the state in the prompt, and this prompt has none; leave it out")
    target = find_robot(robot)
    shapes = {ours: tensors[theirs].shape for ours, theirs in names.kept.items()}
    model = measure_sizes(shapes, recipe.horizon, recipe.max_prompt_tokens)
    check_shapes(shapes, model, names.kept)
    if model.action_dim < target.action_dim:
        raise CheckpointError(
            f"the network's actions have {model.action_dim} channels and robot {target.name} takes {target.action_dim};"
            " name the robot it was trained for with --robot"
        )
    stats = {
        "state": cut_stats(recipe.state, target.state_dim, model.action_dim, "state", target.name),
        "actions": cut_stats(recipe.actions, target.action_dim, model.action_dim, "actions", target.name),
    }
    slots = _map_slots(recipe, target, choices)
    padding = max(0, recipe.padded_to - target.state_dim) if recipe.prompt_state else 0
    config = BundleConfig(
        name=name,
        model=model,
        cameras=tuple(camera for camera in slots.values() if camera is not None),
        state_dim=target.state_dim,
        normalization=recipe.state.mode,
        prompt_state=recipe.prompt_state,
        replan=recipe.replan,
        rtc_max_delay=min(recipe.rtc_max_delay, recipe.horizon - 1),
        flow_steps=recipe.flow_steps,
        hz=target.hz,
        action_space=target.action_space,
        origin={
            "imported_from": origin,
            "checkpoint": checkpoint.resolve().name,
            "robot": target.name,
            "slots": slots,
            "word_embedding": names.embedding,
            "dtype": dtype,
            "notes": list(recipe.notes),
        },
        action_normalization=None if recipe.actions.mode == recipe.state.mode else recipe.actions.mode,
        norm_epsilon=recipe.epsilon,
        prompt_format=recipe.prompt_format,
        prompt_padding=(recipe.padding_bin,) * padding,
    )
    ours = expected_shapes(model)
    written = tuple(
        Written(name, tensors[stored], ours[name], choose_dtype(name, tensors[stored], dtype))
        for name, stored in sorted(names.kept.items())
    )
    path = find_tokenizer(tokenizer, checkpoint)
    return ImportPlan(
        origin, recipe, names, slots, config, written, stats, path, load_tokenizer(path, model.vocab_size)
    )


def run_import(plan: ImportPlan, out: Path, on_bytes: OnBytes = lambda done, total: None) -> Bundle:
    """Write the planned bundle; it appears under its path whole or not at all.

    Raises:
        CheckpointError: no room, or weights that end early or are not finite.
        BundleError: `out` exists.
    """
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(out.parent).free, plan.nbytes + SPARE_BYTES
        if free < needed:
            raise CheckpointError(
                f"the bundle takes {needed / 1e9:.1f} GB and {out.parent} has {free / 1e9:.1f} GB free; make room"
                + ("" if plan.config.origin["dtype"] == "bf16" else ", or take --dtype bf16")
            )
    return write_bundle(
        out,
        config=plan.config,
        weights=lambda path: write_weights(path, plan.tensors, on_bytes),
        tokenizer_json=plan.tokenizer_json,
        norm_stats=plan.stats,
    )


def _map_slots(recipe: Recipe, robot: TargetRobot, choices: Choices) -> dict[str, str | None]:
    """Which camera fills which image slot; a slot without one is left out where it was masked."""
    if unknown := sorted(set(choices.cameras) - set(recipe.slots)):
        raise CheckpointError(f"--camera names the slot {unknown[0]!r}; the checkpoint has {', '.join(recipe.slots)}")
    if unknown := sorted(set(choices.cameras.values()) - set(robot.cameras)):
        raise CheckpointError(f"--camera names {unknown[0]!r}; robot {robot.name} has {', '.join(robot.cameras)}")
    slots = {slot: choices.cameras.get(slot) or robot.camera_of(slot) for slot in recipe.slots}
    open_slots = [slot for slot, camera in slots.items() if camera is None and not slot.startswith("empty_camera")]
    filled = [camera for camera in slots.values() if camera is not None]
    way_out = f"say which with --camera SLOT=CAMERA; robot {robot.name} has {', '.join(robot.cameras)}"
    if not filled:
        raise CheckpointError(f"no image slot of {', '.join(recipe.slots)} shows a camera of the robot; {way_out}")
    if len(set(filled)) < len(filled):
        raise CheckpointError(f"two image slots show the same camera: {slots}; {way_out}")
    if open_slots and not recipe.masked:
        raise CheckpointError(f"nothing fills the image slot {open_slots[0]!r}, which was never masked; {way_out}")
    return slots
