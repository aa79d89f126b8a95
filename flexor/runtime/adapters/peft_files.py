"""The two files that PEFT has for a LoRA: adapter_config.json, adapter_model.safetensors. Needs no PEFT and no torch.

A tensor's name is the projection's name in `Pi05` with what PEFT puts around it; alpha / r is applied on loading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from flexor.pi05.lora import Factors
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_schema import AdapterSchema

CONFIG, MODEL = "adapter_config.json", "adapter_model.safetensors"
PREFIX, ENDS = "base_model.model.", (".lora_A.weight", ".lora_B.weight")
MAX_CONFIG_BYTES = 2**20

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layers_to_transform": (None, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
    "alora_invocation_tokens": (None, []),
    "use_bdlora": (None, False),
    "arrow_config": (None,),
    "kasa_config": (None,),
}
"""Keys of adapter_config.json that would change what is computed, and the values under which they do not."""


def config_bytes(schema: AdapterSchema, base: str) -> bytes:
    """adapter_config.json: `base` names the bundle."""
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": schema.rank,
        "lora_alpha": int(schema.alpha) if schema.alpha.is_integer() else schema.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(schema.targets),
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    return (json.dumps(config, indent=1) + "\n").encode()


def read_config(raw: bytes, where: str) -> tuple[int, float]:
    """Rank and alpha of an adapter_config.json.

    Raises:
        AdapterError: torn: not such a file; wrong_schema: it asks for what flexor does not compute.
    """
    try:
        config = json.loads(raw)
        rank, alpha = config["r"], config["lora_alpha"]
        if isinstance(rank, bool) or not isinstance(rank, int) or not isinstance(alpha, int | float):
            raise TypeError(f"r is {rank!r} and lora_alpha {alpha!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError("torn", f"{where} is no adapter_config.json ({error!r}); write the adapter again") from error
    for key, allowed in NEUTRAL.items():
        if key in config and config[key] not in allowed:
            raise AdapterError(
                "wrong_schema",
                f"{where}: {key} is {config[key]!r}; expected {allowed[0]!r}: train a plain LoRA of the expert's"
                " projections",
            )
    return rank, float(alpha)


def model_bytes(factors: Factors) -> bytes:
    """adapter_model.safetensors of A [r, in] and B [out, r] by projection, as float32."""
    tensors = {
        f"{PREFIX}{name}{end}": np.ascontiguousarray(factor, np.float32)
        for name, pair in sorted(factors.items())
        for end, factor in zip(ENDS, pair, strict=True)
    }
    return save(tensors, {"format": "pt"})


def read_model(raw: bytes, where: str) -> dict[str, NDArray[np.generic]]:
    """The tensors of an adapter_model.safetensors by their name in PEFT.

    Raises:
        AdapterError: torn.
    """
    try:
        return load(raw)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:  # KeyError: a dtype that numpy lacks
        raise AdapterError(
            "torn", f"{where} is no safetensors file that numpy reads ({error}); write the adapter again, in float32"
        ) from error


def factors_of(tensors: Mapping[str, NDArray[np.generic]], where: str) -> dict[str, tuple[Any, Any]]:
    """A and B by projection.

    Raises:
        AdapterError: wrong_schema: a name that is no LoRA factor of a projection, or one without its other half.
    """
    halves: dict[str, list[NDArray[np.generic] | None]] = {}
    for name, tensor in tensors.items():
        side = next((side for side, end in enumerate(ENDS) if name.endswith(end)), None)
        if side is None or not name.startswith(PREFIX):
            raise AdapterError(
                "wrong_schema", f"{where} holds {name!r}; expected {PREFIX}PROJECTION{ENDS[0]} and its B: save by PEFT"
            )
        halves.setdefault(name[len(PREFIX) : -len(ENDS[side])], [None, None])[side] = tensor
    for projection, (a, b) in halves.items():
        if a is None or b is None:
            raise AdapterError("wrong_schema", f"{where} lacks one factor of {projection}; write the adapter again")
    return {projection: (a, b) for projection, (a, b) in halves.items()}
