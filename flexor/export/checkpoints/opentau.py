"""OpenTau's checkpoints: one config, and weights that hold the statistics as buffers.

Its prompt changed twice. Which one a checkpoint was trained with shows in the settings that its config has: each change
came with settings of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.json_fields import choose_keys, whole_number
from flexor.export.checkpoints.recipe import MIDDLE_BIN, MODEL_STATE_DIM, Choices, Quantity, Recipe, Source
from flexor.export.checkpoints.statistics import build_stats, read_stats_file
from flexor.export.checkpoints.weight_files import read_json
from flexor.pi05.normalize import OPENPI_EPSILON, PAIRS, Mode

CONFIGS = ("config.json", "hf_config.json", "train_config.json")
MODES: Mapping[str, Mode] = {"QUANTILE": "quantile", "MEAN_STD": "mean_std", "MIN_MAX": "min_max"}
OLD_EPSILON = 1e-8
BUFFERS = {"state": "normalize_inputs.buffer_state", "actions": "unnormalize_outputs.buffer_actions"}
SETTINGS = {"proj_width", "discrete_action_max_length"}
EMPTY = "empty_camera_"

UNSUPPORTED = {
    "predict_response": "it writes a response before it acts",
    "delta_action_state_map": "its actions are relative to the state",
    "use_modality_embedding": "it adds modality embeddings",
}
"""Settings that make it another model than flexor computes."""


def tells_of(source: Source) -> str | None:
    """What in a folder tells of OpenTau, None when nothing does."""
    if any(name.startswith(tuple(BUFFERS.values())) for name in source.tensors):
        return "statistics among the tensors"
    for name in CONFIGS:
        if (source.folder / name).is_file() and set(_policy(source.folder / name)) >= SETTINGS:
            return f"proj_width and discrete_action_max_length in {name}"
    return None


def read(source: Source, choices: Choices) -> Recipe:
    """The recipe of a policy that OpenTau saved.

    Raises:
        CheckpointError: no config, another policy type, an unsupported setting, or statistics missing.
    """
    path = next((source.folder / name for name in CONFIGS if (source.folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{source.folder} has none of {', '.join(CONFIGS)}; download the checkpoint again")
    config = _policy(path)
    if config.get("type") != "pi05":
        raise CheckpointError(f"{path} is of a {config.get('type')!r} policy; flexor runs 'pi05': take that checkpoint")
    for key, meaning in UNSUPPORTED.items():
        if config.get(key):
            raise CheckpointError(f"{path} has {key} on: {meaning}; flexor does not compute that")
    if config.get("state_type", "discrete") != "discrete":
        raise CheckpointError(f"{path}: state_type is {config['state_type']!r}; flexor runs 'discrete' ones")
    if choices.state_in_prompt is False:
        raise CheckpointError("OpenTau's prompt always carries the state; leave --no-state-in-prompt out")
    version = whole_number(path, config, "config_version", 0, lowest=0) if config.get("config_version") else 0
    epsilon = OPENPI_EPSILON if version >= 1 else OLD_EPSILON
    prompt = choices.prompt or _prompt(config)
    state, actions = (_quantity(source, path, config, name, choices) for name in ("state", "actions"))
    padded_to = whole_number(path, config, "max_state_dim", MODEL_STATE_DIM)
    if choices.pad_state is False:
        padded_to = 0
    # Its states are padded with zeros before they are normalised, and so are their statistics.
    bottom = state.mode != "mean_std" and version < 1
    horizon = choices.horizon or whole_number(path, config, "chunk_size")
    return Recipe(
        horizon=horizon,
        replan=min(whole_number(path, config, "n_action_steps", horizon), horizon),
        flow_steps=whole_number(path, config, "num_steps", 10),
        max_prompt_tokens=whole_number(path, config, "prompt_max_length", config.get("tokenizer_max_length", 256)),
        rtc_max_delay=whole_number(path, config, "max_delay", 0, lowest=0),
        slots=choose_keys(path, config, "input_features", "VISUAL", ""),
        masked=False,
        state=state,
        actions=actions,
        epsilon=epsilon,
        prompt_format=prompt,
        prompt_state=True,
        padded_to=padded_to,
        padding_bin=0 if bottom else MIDDLE_BIN,
        notes=(f"prompt {prompt}, by the settings of {path.name}" if choices.prompt is None else f"prompt {prompt}",),
    )


def _policy(path: Path) -> dict[str, Any]:
    """The policy's settings, which a training config holds one level deeper."""
    data = read_json(path)
    return data["policy"] if isinstance(data.get("policy"), dict) else data


def _prompt(config: Mapping[str, Any]) -> str:
    if "state_type" in config:
        return "opentau-0.5"
    return "opentau-0.2" if "prompt_max_length" in config else "opentau-0.1"


def _quantity(source: Source, path: Path, config: Mapping[str, Any], what: str, choices: Choices) -> Quantity:
    kind = "STATE" if what == "state" else "ACTION"
    name = str((config.get("normalization_mapping") or {}).get(kind))
    if name not in MODES:
        raise CheckpointError(f"{path} normalises {kind} by {name!r}; expected one of {', '.join(MODES)}")
    mode = MODES[name]
    if choices.stats is not None:
        return Quantity(read_stats_file(choices.stats, {"state": mode, "actions": mode})[what], mode)
    values = {}
    for stat in PAIRS[mode]:
        tensor = source.tensors.get(f"{BUFFERS[what]}.{stat}")
        if tensor is not None:
            values[stat] = _row(tensor.numbers(), config, choices)
    return Quantity(build_stats(f"{source.folder}: buffers {BUFFERS[what]}", mode, values), mode)


def _row(stacked: np.ndarray, config: Mapping[str, Any], choices: Choices) -> np.ndarray:
    """The statistics of one data set: later releases stack those of all that were trained on."""
    if stacked.ndim == 1:
        return stacked
    names = [str(name) for name in config.get("dataset_names") or ()]
    if choices.dataset is not None and choices.dataset in names[: len(stacked)]:
        return stacked[names.index(choices.dataset)]
    if choices.dataset is not None or len(stacked) != 1:
        raise CheckpointError(
            f"it was trained on {len(stacked)} data sets, {', '.join(names) or 'unnamed'}; choose whose"
            " statistics to use with --dataset NAME"
        )
    return stacked[0]
