"""LeRobot's checkpoints: config.json, weights, and two pipelines of steps whose state files hold the statistics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.json_fields import choose_keys, whole_number
from flexor.export.checkpoints.recipe import MIDDLE_BIN, MODEL_STATE_DIM, Choices, Quantity, Recipe, Source
from flexor.export.checkpoints.statistics import build_stats, read_stats_file
from flexor.export.checkpoints.tensor_file import read_header
from flexor.export.checkpoints.weight_files import read_json
from flexor.pi05.normalize import Mode

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
STATE, ACTION = "observation.state", "action"
IMAGES = "observation.images."
EPSILON = 1e-8
MODES: Mapping[str, Mode] = {"QUANTILES": "quantile", "MEAN_STD": "mean_std", "MIN_MAX": "min_max"}

RELATIVE = ("delta_actions_processor", "relative_actions_processor")
"""The step for relative actions, as 0.5.1 and as later releases call it."""

UNSUPPORTED = {
    "use_relative_actions": "its actions are relative to the state",
    "use_visual_memory": "it looks at past images",
    "use_proprioceptive_memory": "it feeds past states through a projection",
    "use_peft": "it is an adapter without its base: merge it into the base first",
}
"""Switches of config.json that make it another model than flexor computes."""


def tells_of(source: Source) -> str | None:
    """What in a folder tells of LeRobot, None when nothing does."""
    if (source.folder / PREPROCESSOR).is_file():
        return PREPROCESSOR
    config = source.folder / "config.json"
    if config.is_file() and {"paligemma_variant", "chunk_size"} <= set(read_json(config)):
        return "paligemma_variant and chunk_size in config.json"
    return None


def read(source: Source, choices: Choices) -> Recipe:
    """The recipe of a policy that LeRobot saved.

    Raises:
        CheckpointError: another policy type, an unsupported switch, statistics or a step missing.
    """
    path = source.folder / "config.json"
    config = read_json(path)
    if config.get("type") != "pi05":
        raise CheckpointError(f"{path} is of a {config.get('type')!r} policy; flexor runs 'pi05': take that checkpoint")
    for key, meaning in UNSUPPORTED.items():
        if config.get(key):
            raise CheckpointError(f"{path} has {key} on: {meaning}; flexor does not compute that")
    before, after = (_steps(source.folder / name) for name in (PREPROCESSOR, POSTPROCESSOR))
    relative = [step for step in before if step.get("registry_name") in RELATIVE]
    if any((step.get("config") or {}).get("enabled") for step in relative):
        raise CheckpointError(
            f"{source.folder / PREPROCESSOR}: {UNSUPPORTED['use_relative_actions']}; flexor does not compute that"
        )
    state = _quantity(source.folder, PREPROCESSOR, _normalizer(source.folder, before, PREPROCESSOR), "STATE", choices)
    actions = _quantity(
        source.folder, POSTPROCESSOR, _normalizer(source.folder, after, POSTPROCESSOR), "ACTION", choices
    )
    prompt_state = True if choices.state_in_prompt is None else choices.state_in_prompt
    notes = []
    padded_to = 0
    if choices.pad_state is None:
        # 0.5.1 brought relative actions, with a switch in config.json and a step in every pipeline.
        later = "use_relative_actions" in config or bool(relative)
        if prompt_state and not later:
            padded_to = whole_number(path, config, "max_state_dim", MODEL_STATE_DIM)
            notes.append(
                f"saved by LeRobot 0.5.0 or older: the prompt's state is padded to {padded_to}, as 0.4 did; if it was"
                " trained with 0.5.0 say --no-pad-state"
            )
        elif prompt_state:
            notes.append("saved by LeRobot 0.5.1 or newer: the prompt's state is not padded")
    elif choices.pad_state:
        padded_to = whole_number(path, config, "max_state_dim", MODEL_STATE_DIM)
    horizon = choices.horizon or whole_number(path, config, "chunk_size")
    return Recipe(
        horizon=horizon,
        replan=min(whole_number(path, config, "n_action_steps", horizon), horizon),
        flow_steps=whole_number(path, config, "num_inference_steps", 10),
        max_prompt_tokens=whole_number(path, config, "tokenizer_max_length", 200),
        rtc_max_delay=whole_number(path, config, "rtc_training_max_delay", 0, lowest=0),
        slots=choose_keys(path, config, "input_features", "VISUAL", IMAGES),
        masked=True,
        state=state,
        actions=actions,
        epsilon=EPSILON,
        prompt_format=choices.prompt or "openpi",
        prompt_state=prompt_state,
        padded_to=padded_to,
        padding_bin=MIDDLE_BIN,
        notes=tuple(notes),
    )


def _steps(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing; it tells how state and actions are normalised. Checkpoints older than LeRobot 0.4 get"
            " theirs from lerobot/processor/migrate_policy_normalization.py"
        )
    steps = read_json(path).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(f"{path} has no list of 'steps'; download it again")
    return steps


def _normalizer(folder: Path, steps: list[dict[str, Any]], file: str) -> dict[str, Any]:
    name = "normalizer_processor" if file == PREPROCESSOR else "unnormalizer_processor"
    step = next((step for step in steps if step.get("registry_name") == name), None)
    if step is None or not isinstance(step.get("config"), dict):
        raise CheckpointError(f"{folder / file} has no step {name!r} with a config; without it nothing is normalised")
    return step


def _quantity(folder: Path, file: str, step: dict[str, Any], kind: str, choices: Choices) -> Quantity:
    """Mode and statistics of STATE or ACTION from its normalisation step."""
    norm_map = step["config"].get("norm_map") or {}
    if norm_map.get("VISUAL", "IDENTITY") != "IDENTITY":
        raise CheckpointError(
            f"{folder / file} normalises images by {norm_map['VISUAL']}; flexor takes them as they are"
        )
    if norm_map.get(kind) not in MODES:
        raise CheckpointError(
            f"{folder / file} normalises {kind} by {norm_map.get(kind)!r}; expected one of {', '.join(MODES)}"
        )
    mode = MODES[norm_map[kind]]
    keys = step["config"].get("normalize_observation_keys")
    if kind == "STATE" and keys is not None and STATE not in keys:
        raise CheckpointError(f"{folder / file} leaves {STATE} as it is; flexor has no such mode")
    if choices.stats is not None:
        modes: dict[str, Mode] = {"state": mode, "actions": mode}
        return Quantity(read_stats_file(choices.stats, modes)["state" if kind == "STATE" else "actions"], mode)
    key = STATE if kind == "STATE" else ACTION
    name = step.get("state_file")
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(
            f"{folder / file} names no state file with statistics of {key}; give the statistics of its training data"
            " with --stats FILE"
        )
    stored = {entry: tensor for entry, tensor in read_header(folder / name).items() if entry.startswith(f"{key}.")}
    values = {entry.removeprefix(f"{key}."): tensor.numbers() for entry, tensor in stored.items()}
    return Quantity(build_stats(f"{folder / name}: statistics of {key}", mode, values), mode)
