"""openpi's converted checkpoints: model.safetensors, config.json, assets/<asset id>/norm_stats.json.

Neither file says whether the state is in the prompt, nor, without a config.json, how long a chunk is: openpi keeps that
in its code, under the name of a training config. The asset id tells which of its public ones it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.recipe import MIDDLE_BIN, MODEL_STATE_DIM, Choices, Quantity, Recipe, Source
from flexor.export.checkpoints.statistics import QUANTITIES, read_stats_file
from flexor.export.checkpoints.weight_files import read_json
from flexor.pi05.normalize import OPENPI_EPSILON, Mode

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
MAX_PROMPT_TOKENS = 200
FLOW_STEPS = 10
REPLAN = 5  # of its LIBERO client
MODE: Mode = "quantile"


@dataclass(frozen=True, slots=True)
class TrainedWith:
    """What openpi's training config says that its checkpoint does not."""

    config: str
    state_in_prompt: bool
    horizon: int


CONFIGS: Mapping[str, TrainedWith] = {
    # pi05_libero is the one config of openpi whose prompt goes without the state.
    "physical-intelligence/libero": TrainedWith("pi05_libero", state_in_prompt=False, horizon=10),
    "droid": TrainedWith("pi05_droid", state_in_prompt=True, horizon=15),
    "trossen": TrainedWith("pi05_aloha", state_in_prompt=True, horizon=50),
}
"""By asset id."""


def tells_of(source: Source) -> str | None:
    """What in a folder tells of openpi, None when nothing does."""
    if any((source.folder / "assets").glob("**/norm_stats.json")):
        return "assets/.../norm_stats.json"
    config = source.folder / "config.json"
    if config.is_file() and "action_horizon" in read_json(config):
        return "action_horizon in config.json"
    return None


def read(source: Source, choices: Choices) -> Recipe:
    """The recipe of a converted checkpoint.

    Raises:
        CheckpointError: statistics missing or several, or a choice that neither files nor user make.
    """
    asset, path = _asset(source.folder, choices)
    stats = read_stats_file(path, dict.fromkeys(QUANTITIES, MODE))
    known = CONFIGS.get(asset or "")
    notes = [] if known is None else [f"asset {asset!r} is that of openpi's config {known.config}"]
    state_in_prompt = choices.state_in_prompt
    if state_in_prompt is None:
        if known is None:
            raise CheckpointError(
                f"nothing tells whether the prompt carries the state: asset {asset!r} is none of openpi's public ones"
                f" ({', '.join(CONFIGS)}). Say --state-in-prompt when its config left discrete_state_input alone (the"
                " default of pi05), --no-state-in-prompt when it set it to False (as pi05_libero does)"
            )
        state_in_prompt = known.state_in_prompt
    return Recipe(
        horizon=_horizon(source.folder, choices, known),
        replan=REPLAN,
        flow_steps=FLOW_STEPS,
        max_prompt_tokens=MAX_PROMPT_TOKENS,
        rtc_max_delay=0,
        slots=SLOTS,
        masked=True,
        state=Quantity(stats["state"], MODE),
        actions=Quantity(stats["actions"], MODE),
        epsilon=OPENPI_EPSILON,
        prompt_format=choices.prompt or "openpi",
        prompt_state=state_in_prompt,
        padded_to=MODEL_STATE_DIM if choices.pad_state else 0,
        padding_bin=MIDDLE_BIN,
        notes=tuple(notes),
    )


def _asset(folder: Path, choices: Choices) -> tuple[str | None, Path]:
    """Asset id and the file of statistics."""
    assets = {
        path.parent.relative_to(folder / "assets").as_posix(): path
        for path in sorted((folder / "assets").glob("**/norm_stats.json"))
    }
    if choices.dataset is not None and choices.dataset not in assets:
        raise CheckpointError(
            f"{folder} has no asset {choices.dataset!r}; its assets are: {', '.join(assets) or 'none'}"
        )
    if choices.dataset is None and len(assets) > 1 and choices.stats is None:
        raise CheckpointError(f"{folder} has several assets: {', '.join(assets)}; choose one with --dataset")
    asset = choices.dataset or next(iter(assets), None)
    if choices.stats is not None:
        return asset, choices.stats
    if asset is None:
        raise CheckpointError(
            f"{folder} has no assets/<asset id>/norm_stats.json; copy openpi's assets there, or give --stats FILE"
        )
    return asset, assets[asset]


def _horizon(folder: Path, choices: Choices, known: TrainedWith | None) -> int:
    if choices.horizon is not None:
        return choices.horizon
    if (folder / "config.json").is_file():
        found = read_json(folder / "config.json").get("action_horizon")
        if isinstance(found, int) and not isinstance(found, bool) and found > 0:
            return found
    if known is None:
        raise CheckpointError(
            "nothing tells how many actions a chunk has: there is no action_horizon in config.json; give --horizon"
            " (pi05_libero 10, pi05_droid 15, otherwise 50)"
        )
    return known.horizon
