"""Small checkpoints of others, written in exactly their layouts: files, JSON, statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from foreign_tensors import SMALL, random_weights, save, stored, tokenizer_json, write_json

STATE_DIM, ACTION_DIM = 8, 7


def random_stats(dim: int, seed: int) -> dict[str, list[float]]:
    """All the statistics that anybody keeps."""
    generator = np.random.default_rng(seed)
    low, spread = generator.uniform(-2, 0, dim), generator.uniform(0.5, 3, dim)
    return {
        "mean": (low + spread / 2).tolist(),
        "std": (spread / 3).tolist(),
        "q01": (low + spread * 0.05).tolist(),
        "q99": (low + spread * 0.9).tolist(),
        "min": low.tolist(),
        "max": (low + spread).tolist(),
    }


STATS = {"state": random_stats(STATE_DIM, 1), "actions": random_stats(ACTION_DIM, 2)}


def write_openpi(folder: Path, asset: str = "physical-intelligence/libero", config: bool = True) -> Path:
    """What openpi's conversion script leaves behind, and a tokenizer.json."""
    folder.mkdir(parents=True)
    save(folder / "model.safetensors", stored(random_weights()))
    stats = {name: {key: row[key] for key in ("mean", "std", "q01", "q99")} for name, row in STATS.items()}
    write_json(folder / "assets" / asset / "norm_stats.json", {"norm_stats": stats})
    if config:
        variants = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
        write_json(
            folder / "config.json", {"action_dim": 32, "action_horizon": 10, **variants, "precision": "bfloat16"}
        )
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return folder


LEROBOT_FEATURES = {
    "observation.images.image": {"type": "VISUAL", "shape": [3, 256, 256]},
    "observation.images.image2": {"type": "VISUAL", "shape": [3, 256, 256]},
    "observation.state": {"type": "STATE", "shape": [STATE_DIM]},
    "observation.images.empty_camera_0": {"type": "VISUAL", "shape": [3, 224, 224]},
}


def write_lerobot(folder: Path, mode: str = "MEAN_STD", later: bool = False) -> Path:
    """What LeRobot's save_pretrained leaves behind, by 0.4.4 or, `later`, by 0.6; and a tokenizer.json."""
    folder.mkdir(parents=True)
    embedding = ("lm_head", "embed_tokens")
    save(folder / "model.safetensors", stored(random_weights(), prefix="model.", embedding=embedding))
    switches = {"use_relative_actions": False, "action_feature_names": None} if later else {}
    norm_map = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    action = {"action": {"type": "ACTION", "shape": [ACTION_DIM]}}
    config = {
        "type": "pi05",
        "n_obs_steps": 1,
        "input_features": LEROBOT_FEATURES,
        "output_features": action,
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": "bfloat16",
        "chunk_size": 10,
        "n_action_steps": 10,
        "max_state_dim": 32,
        "max_action_dim": 32,
        "num_inference_steps": 10,
        "empty_cameras": 1,
        "tokenizer_max_length": 300,
        "normalization_mapping": norm_map,
        **switches,
    }
    write_json(folder / "config.json", config)
    stats = {
        f"{key}.{stat}": np.asarray(row)
        for key, name in (("observation.state", "state"), ("action", "actions"))
        for stat, row in STATS[name].items()
    }
    number = 3 if later else 2
    before = f"policy_preprocessor_step_{number}_normalizer_processor.safetensors"
    after = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    save(folder / before, stats)
    save(folder / after, stats)
    relative: dict[str, Any] = {"registry_name": "delta_actions_processor", "config": {"enabled": False}}
    tokens = {
        "max_length": 300,
        "task_key": "task",
        "padding": "max_length",
        "tokenizer_name": "google/paligemma-3b-pt-224",
    }
    steps: list[dict[str, Any]] = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        *([relative] if later else []),
        {
            "registry_name": "normalizer_processor",
            "config": {"eps": 1e-8, "features": {**LEROBOT_FEATURES, **action}, "norm_map": norm_map},
            "state_file": before,
        },
        {"registry_name": "pi05_prepare_state_tokenizer_processor_step", "config": {}},
        {"registry_name": "tokenizer_processor", "config": tokens},
        {"registry_name": "device_processor", "config": {"device": "cuda", "float_dtype": None}},
    ]
    write_json(folder / "policy_preprocessor.json", {"name": "policy_preprocessor", "steps": steps})
    undo = {"eps": 1e-8, "features": action, "norm_map": norm_map}
    steps = [
        {"registry_name": "unnormalizer_processor", "config": undo, "state_file": after},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    write_json(folder / "policy_postprocessor.json", {"name": "policy_postprocessor", "steps": steps})
    (folder / "tokenizer.json").write_text(tokenizer_json(image_token=True))
    return folder


def padded(row: list[float]) -> np.ndarray:
    """OpenTau's statistics are as wide as its padded vectors."""
    return np.pad(np.asarray(row, np.float32), (0, 32 - len(row)))


def write_opentau(folder: Path, release: str = "0.1", datasets: int = 0) -> Path:
    """What OpenTau saves: one config, statistics among the tensors; `datasets` stacks so many of them."""
    folder.mkdir(parents=True)
    tensors = stored(random_weights(), prefix="model.", embedding=("lm_head", "embed_tokens"), expert_head=False)
    head = np.ones((60, SMALL.prefix.width), np.float32)
    tensors |= {
        "model.paligemma_with_expert.discrete_action_embedding.weight": head,
        "model.paligemma_with_expert.da_head.weight": head,
        "model.paligemma_with_expert.da_head.bias": head[:, 0],
    }
    buffers = {
        "normalize_inputs.buffer_state": ("state", ("min", "max")),
        "normalize_targets.buffer_actions": ("actions", ("mean", "std")),
        "unnormalize_outputs.buffer_actions": ("actions", ("mean", "std")),
        "normalize_discrete_actions.buffer_actions": ("actions", ("min", "max")),
    }
    for name, (quantity, stats) in buffers.items():
        for stat in stats:
            row = padded(STATS[quantity][stat])
            tensors[f"{name}.{stat}"] = np.stack([row + i for i in range(datasets)]) if datasets else row
    save(folder / "model.safetensors", tensors)
    own: dict[str, dict[str, Any]] = {
        "0.1": {"tokenizer_max_length": 256, "init_strategy": "full_he_init"},
        "0.2": {"prompt_max_length": 256, "predict_response": False, "max_delay": 3},
        "0.5": {"prompt_max_length": 256, "predict_response": False, "state_type": "discrete", "config_version": 1},
    }
    names = {"dataset_names": [f"set{number}" for number in range(datasets)]} if datasets else {}
    features = {
        "camera0": {"type": "VISUAL", "shape": [3, 224, 224]},
        "camera1": {"type": "VISUAL", "shape": [3, 224, 224]},
        "state": {"type": "STATE", "shape": [32]},
    }
    config = {
        "type": "pi05",
        "input_features": features,
        "output_features": {"actions": {"type": "ACTION", "shape": [32]}},
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"},
        "chunk_size": 10,
        "n_action_steps": 10,
        "max_state_dim": 32,
        "max_action_dim": 32,
        "proj_width": 1024,
        "num_steps": 10,
        "discrete_action_max_length": 60,
        **own[release],
        **names,
    }
    write_json(folder / "config.json", config)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return folder


WRITERS = {"openpi": write_openpi, "lerobot": write_lerobot, "opentau": write_opentau}
