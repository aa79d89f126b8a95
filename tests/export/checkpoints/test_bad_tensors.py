"""Tensors of another model are refused by name and with the way out, and damaged numbers leave no bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign_checkpoints import write_openpi
from foreign_tensors import EXPERT, VLM, random_weights, save, stored

from flexor.errors import FlexorError
from flexor.export.checkpoints.importer import plan_import, run_import

Change = Callable[[dict[str, np.ndarray]], object]
ONE = np.ones((2, 2), np.float32)
LORA = f"{EXPERT}model.layers.0.self_attn.q_proj"

TENSORS: dict[str, tuple[Change, str]] = {
    "pi0: its state projection": (
        lambda t: t.update({"state_proj.weight": ONE}),
        r"state_proj.weight: it feeds the state through a projection .* take such a checkpoint",
    ),
    "pi0: its time MLP": (
        lambda t: t.update({"action_time_mlp_in.weight": ONE, "action_time_mlp_out.weight": ONE}),
        r"action_time_mlp_in.weight and 1 more: it is a pi0 checkpoint.*take the pi05 one",
    ),
    "pi0: plain norms in the expert": (
        lambda t: t.update({f"{EXPERT}model.layers.0.input_layernorm.weight": ONE}),
        "it is a pi0 checkpoint",
    ),
    "LoRA keys left beside merged weights": (
        lambda t: t.update({f"{LORA}.lora_A.weight": ONE, f"{LORA}.lora_B.weight": ONE}),
        r"lora_A.weight and 1 more: it holds a LoRA adapter .*merge_and_unload",
    ),
    "LoRA as PEFT saves it": (
        lambda t: t.update({f"base_model.model.{LORA}.base_layer.weight": ONE}),
        "it holds a LoRA adapter",
    ),
    "modality embeddings": (lambda t: t.update({"modality_embedding.weight": ONE}), "modality embeddings"),
    "quantised": (lambda t: t.update({"action_in_proj.weight_scale": ONE}), "it is quantised; take the plain one"),
    "unknown tensors": (
        lambda t: t.update({f"value_head.{i}.weight": ONE for i in range(5)}),
        r"5 tensors have no place in a pi0.5: value_head.0.weight, .* and 2 more",
    ),
    "a tensor missing": (lambda t: t.pop("time_mlp_in.bias"), r"lacks 1 of \d+ tensors, first time_mlp_in.bias"),
    "a layer missing in the middle": (
        lambda t: [t.pop(name) for name in list(t) if ".language_model.layers.0." in name],
        r"has no prefix_layers.0.attention.q_proj.weight",
    ),
    "no embedding": (lambda t: t.pop(f"{VLM}lm_head.weight"), "the word embedding is missing, under either name"),
    "the same tensor twice": (
        lambda t: t.update({f"{VLM}model.vision_tower.post_layernorm.bias": ONE}),
        r"are the same tensor under two names",
    ),
    "a tensor of another shape": (
        lambda t: t.update({f"{EXPERT}model.layers.1.mlp.up_proj.weight": np.ones((41, 32), np.float32)}),
        r"layers.1.mlp.up_proj.weight is \[41, 32\]; expected \[40, 32\]",
    ),
    "no square of patches": (
        lambda t: t.update(
            {f"{VLM}model.vision_tower.vision_model.embeddings.position_embedding.weight": np.ones((5, 32), np.float32)}
        ),
        "with 5 positions; expected",
    ),
    "fewer action channels than the robot's": (
        lambda t: t.update(
            {
                "action_out_proj.weight": np.ones((6, 32), np.float32),
                "action_out_proj.bias": np.ones(6, np.float32),
                "action_in_proj.weight": np.ones((32, 6), np.float32),
            }
        ),
        "the network's actions have 6 channels and robot libero takes 7",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_of_another_model_are_refused(case: str, tmp_path: Path) -> None:
    change, message = TENSORS[case]
    checkpoint = write_openpi(tmp_path / "checkpoint")
    tensors = stored(random_weights())
    change(tensors)
    save(checkpoint / "model.safetensors", tensors)
    with pytest.raises(FlexorError, match=message):
        plan_import(checkpoint, "imported")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_leave_no_bundle(value: float, tmp_path: Path) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint")
    tensors = stored(random_weights())
    tensors["time_mlp_in.weight"] = tensors["time_mlp_in.weight"].copy()
    tensors["time_mlp_in.weight"][3, 4] = value
    save(checkpoint / "model.safetensors", tensors)
    plan = plan_import(checkpoint, "imported")
    with pytest.raises(FlexorError, match=r"time_mlp_in.weight holds numbers that are not finite"):
        run_import(plan, tmp_path / "imported")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
