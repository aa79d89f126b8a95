"""The weight files of a checkpoint folder: one safetensors file, or shards with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.tensor_file import StoredTensor, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ELSEWHERE = {
    "params": "it holds JAX weights; convert them with openpi's examples/convert_jax_model_to_pytorch.py first",
    "adapter_model.safetensors": "it holds a LoRA adapter alone; merge it into its base (PEFT's merge_and_unload),"
    " save that, and import it",
    "pytorch_model.bin": "it holds pickled weights, which are never read; save them as safetensors",
    "model.pt": "it holds pickled weights, which are never read; save them as safetensors",
    "pretrained_model": "its checkpoint lies one folder deeper; import its pretrained_model",
}
"""What else such a folder may hold, and what to do then."""


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of a checkpoint.

    Raises:
        CheckpointError: no such file, not JSON, or no object.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); download the checkpoint again") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); download the checkpoint again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {type(data).__name__}; expected an object")
    return data


def find_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint folder by its stored name, from the headers alone.

    Raises:
        CheckpointError: no weights, a shard missing or cut short, or shards that are not what the index says.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; expected a checkpoint's, with {SINGLE} in it")
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    if not (folder / INDEX).is_file():
        for name, hint in ELSEWHERE.items():
            if (folder / name).exists():
                raise CheckpointError(f"{folder} has no {SINGLE}: {hint}")
        raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}; give the folder that holds the weights")
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{folder / INDEX} has no 'weight_map' of names; download it again")
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{folder / INDEX} names the shard {name!r}, which is outside the folder")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} lacks the shard {name}, which its index names; download it again")
        for tensor, place in read_header(folder / name).items():
            if places.get(tensor) != name:
                where = places.get(tensor, "nowhere")
                raise CheckpointError(f"{folder / name} holds {tensor}, which the index puts {where}; download again")
            found[tensor] = place
    if missing := sorted(set(places) - set(found)):
        raise CheckpointError(
            f"{folder / places[missing[0]]} lacks {missing[0]}, which the index puts there"
            f" ({len(missing)} such tensors); download it again"
        )
    return found
