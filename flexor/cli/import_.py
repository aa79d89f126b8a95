"""`flexor import`: a checkpoint of openpi, LeRobot or OpenTau -> a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexor.cli.report import JsonFile

if TYPE_CHECKING:
    from flexor.export.checkpoints.importer import ImportPlan


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint: weights and its JSON files.")],
    out: Annotated[Path | None, typer.Option(help="Bundle to write; its name is the folder's.")] = None,
    origin: Annotated[
        str | None, typer.Option(help="Whose it is: openpi, lerobot or opentau; by default what its files tell.")
    ] = None,
    robot: Annotated[str, typer.Option(help="Robot it is to drive: libero, or a JSON file.")] = "libero",
    tokenizer: Annotated[
        Path | None, typer.Option(help="PaliGemma's tokenizer, file or folder; by default in the checkpoint's folder.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Weights as stored (source), or halved (bf16).")] = "source",
    state_in_prompt: Annotated[
        bool | None, typer.Option("--state-in-prompt/--no-state-in-prompt", help="By default as it was trained.")
    ] = None,
    pad_state: Annotated[
        bool | None,
        typer.Option("--pad-state/--no-pad-state", help="Whether that state is padded to 32; by default as trained."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt: openpi (LeRobot's too), opentau-0.1, -0.2 or -0.5; as trained.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Asset or data set whose statistics to use, where it has several.")
    ] = None,
    stats: Annotated[
        Path | None, typer.Option(help="Statistics to use instead of its own, as openpi's norm_stats.json.")
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Actions in a chunk, where no file tells.")] = None,
    camera: Annotated[
        list[str] | None, typer.Option(metavar="SLOT=CAMERA", help="Robot camera that fills an image slot.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would do, and write nothing.")] = False,
    json: JsonFile = None,
) -> None:
    """Make a bundle of a checkpoint that openpi, LeRobot or OpenTau trained.

    The weights are streamed: memory stays the same whatever their size. docs/import.md tells what is decided by which
    file.

    Example: flexor import pi05_libero_pytorch --tokenizer paligemma_tokenizer.model --out pi05-libero
    """
    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.export.checkpoints.importer import plan_import, run_import
    from flexor.export.checkpoints.recipe import Choices

    if out is None and not dry_run:
        raise typer.BadParameter("say where the bundle goes with --out FOLDER, or only look with --dry-run")
    choices = Choices(origin, state_in_prompt, pad_state, prompt, dataset, stats, horizon, _cameras(camera or []))
    name = (out or checkpoint).resolve().name.lower()
    plan = plan_import(checkpoint, name, robot, tokenizer, dtype, choices)
    if dry_run:
        table("tensors (--json names each)", ("part", "tensors", "MB", "dtype", "stored as"), _tensor_rows(plan))
        table("dropped", ("stored as", "because"), plan.names.dropped.items())
    table("recipe", ("", ""), _recipe_rows(plan))
    for name, values in plan.stats.items():
        rows = ((key, " ".join(f"{value:.4g}" for value in row)) for key, row in values.to_dict().items())
        table(f"statistics of {name}", ("", ""), rows)
    result: dict[str, Any] = {**plan.to_dict(), "dry_run": dry_run}
    if not dry_run:
        assert out is not None
        with Progress() as progress:

            def on_bytes(done: int, total: int) -> None:
                progress.update("writing weights", done, total, f"{done / 1e9:.2f} of {total / 1e9:.2f} GB")

            bundle = run_import(plan, out, on_bytes)
        table("imported", ("", ""), (("bundle", str(out)), ("id", bundle.id)))
        result |= {"out": out, "hash": bundle.hash}
    write_json(json, result)


def _cameras(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [slot for slot, equals, camera in pairs if not (slot and equals and camera)]:
        raise typer.BadParameter(f"--camera {wrong[0]}: expected SLOT=CAMERA, as base_0_rgb=agentview")
    return {slot: camera for slot, _, camera in pairs}


PARTS = {
    "vision": "image tower",
    "projector": "projector",
    "token_embedding": "word embedding",
    "prefix": "prefix",
    "expert": "action expert",
    "": "actions and time",
}
"""How the names of tensors in a bundle begin -> what they are called here."""


def _tensor_rows(plan: ImportPlan) -> list[tuple[object, ...]]:
    """One row for the tensors of a part that have the same dtype."""
    from os.path import commonpath

    rows: dict[tuple[str, str], list[Any]] = {}
    for tensor in plan.tensors:
        part = next(title for start, title in PARTS.items() if tensor.name.startswith(start))
        rows.setdefault((part, tensor.dtype), []).append(tensor)
    told = []
    for (part, dtype), tensors in rows.items():
        stored = [plan.names.kept[tensor.name] for tensor in tensors]
        shared = commonpath([name.replace(".", "/") for name in stored]).replace("/", ".")
        told.append((part, len(tensors), f"{sum(tensor.nbytes for tensor in tensors) / 1e6:,.1f}", dtype, shared))
    return told


def _recipe_rows(plan: ImportPlan) -> list[tuple[str, object]]:
    config = plan.config
    slots = ", ".join(f"{slot} = {camera or 'left out'}" for slot, camera in plan.slots.items())
    padding = f", padded to {config.state_dim + len(config.prompt_padding)}" if config.prompt_padding else ""
    return [
        ("origin", plan.origin),
        ("parameters", f"{config.model.parameter_count() / 1e6:,.1f} million, {plan.nbytes / 1e9:.2f} GB"),
        ("image slots", slots),
        ("state", f"{config.state_dim} numbers, {config.normalization}"),
        ("actions", f"{config.action_dim} of {config.model.action_dim}, {config.normalization_of_actions}"),
        ("prompt", f"{config.prompt_format}, {'with' if config.prompt_state else 'without'} the state{padding}"),
        ("chunk", f"{config.horizon} actions, asked again after {config.replan}, {config.flow_steps} flow steps"),
        ("word embedding", plan.names.embedding),
        ("tokenizer", f"{plan.tokenizer.name}, {config.model.vocab_size} tokens"),
        *(("note", note) for note in plan.recipe.notes),
    ]
