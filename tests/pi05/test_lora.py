"""Packed adapters hold what their factors say, and refuse what is not theirs."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from flexor.pi05.config import PRESETS
from flexor.pi05.lora import Factors, is_deep, pack, packed_shapes
from flexor.pi05.lora_targets import ALL_PAIRS, PAIRS, target_sizes
from flexor.pi05.model import Pi05

CONFIG = PRESETS["pi05-micro"]
RANK, SCALE = 3, 4.0


def draw_factors(rank: int, names: list[str] | None = None) -> Factors:
    rng = np.random.default_rng(5)
    sizes = target_sizes(CONFIG)
    return {
        name: (rng.normal(size=(rank, inputs)), rng.normal(size=(outputs, rank)))
        for name, (inputs, outputs) in sizes.items()
        if names is None or name in names
    }


def test_targets_are_the_projector_and_the_linear_layers_of_the_expert_but_for_what_flow_time_steers() -> None:
    model = Pi05(CONFIG)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    left_out = [name for name in linear if "_norm.dense" in name or "time_mlp" in name or name == "expert.norm.dense"]
    expected = [
        name for name in linear if name.startswith(("projector", "expert.", "action_")) and name not in left_out
    ]
    assert sorted(target_sizes(CONFIG)) == sorted(expected)
    assert all(
        (linear[name].in_features, linear[name].out_features) == size for name, size in target_sizes(CONFIG).items()
    )


def test_the_product_of_a_pair_is_each_projections_own_change_stacked() -> None:
    factors = draw_factors(RANK)
    packed = pack(CONFIG, factors, SCALE, RANK)
    for layer in range(CONFIG.expert.depth):
        parts = [factors[f"expert.layers.{layer}.attention.{name}_proj"] for name in "qkv"]
        expected = np.concatenate([SCALE * b @ a for a, b in parts])
        np.testing.assert_allclose(packed["qkv_b"][layer] @ packed["qkv_a"][layer], expected, rtol=1e-4, atol=1e-5)
    a, b = factors["action_out_proj"]
    np.testing.assert_allclose(packed["action_out_b"] @ packed["action_out_a"], SCALE * b @ a, rtol=1e-4, atol=1e-5)


def test_a_larger_packed_rank_changes_no_product() -> None:
    factors = draw_factors(RANK)
    exact, padded = pack(CONFIG, factors, SCALE, RANK), pack(CONFIG, factors, SCALE, RANK + 5)
    assert {name: array.shape for name, array in padded.items()} == packed_shapes(CONFIG, RANK + 5)
    for pair in PAIRS:
        np.testing.assert_allclose(
            padded[f"{pair}_b"] @ padded[f"{pair}_a"], exact[f"{pair}_b"] @ exact[f"{pair}_a"], rtol=1e-5, atol=1e-5
        )


def test_what_has_no_factors_is_not_changed() -> None:
    packed = pack(CONFIG, draw_factors(RANK, ["expert.layers.0.attention.k_proj"]), SCALE, RANK)
    changed = {name for name, array in packed.items() if array.any()}
    assert changed == {"qkv_a", "qkv_b"}
    queries = CONFIG.expert.heads * CONFIG.expert.head_dim
    assert not packed["qkv_b"][0, :queries].any() and packed["qkv_b"][0, queries : queries + 2].any()
    assert not packed["qkv_b"][1:].any()


def test_deep_targets_are_all_that_is_read_of_image_tower_and_prefix_besides() -> None:
    linear = {name: module for name, module in Pi05(CONFIG).named_modules() if isinstance(module, nn.Linear)}
    last = f"prefix_layers.{CONFIG.prefix.depth - 1}."
    unread = [f"{last}{name}" for name in ("attention.q_proj", "attention.o_proj")]
    unread += [f"{last}mlp.{name}_proj" for name in ("gate", "up", "down")]
    deep = [name for name in linear if name.startswith(("vision.layers.", "prefix_layers.")) and name not in unread]
    found = target_sizes(CONFIG, ALL_PAIRS)
    assert sorted(found) == sorted([*deep, *target_sizes(CONFIG)])
    assert all((linear[name].in_features, linear[name].out_features) == size for name, size in found.items())


def test_factors_of_the_tower_make_an_adapter_deep_and_others_do_not() -> None:
    shallow = pack(CONFIG, draw_factors(RANK), SCALE, RANK)
    sizes = target_sizes(CONFIG, ALL_PAIRS)
    rng = np.random.default_rng(6)
    name = "vision.layers.1.k_proj"
    inputs, outputs = sizes[name]
    factors = {name: (rng.normal(size=(RANK, inputs)), rng.normal(size=(outputs, RANK)))}
    deep = pack(CONFIG, factors, SCALE, RANK)
    assert not is_deep(shallow) and is_deep(deep)
    assert {key: array.shape for key, array in deep.items()} == packed_shapes(CONFIG, RANK, ALL_PAIRS)
    a, b = factors[name]
    width = CONFIG.vision.width
    found = deep["tower_qkv_b"][1] @ deep["tower_qkv_a"][1]
    np.testing.assert_allclose(found[width : 2 * width], SCALE * b @ a, rtol=1e-4, atol=1e-4)
    assert {key for key, array in deep.items() if array.any()} == {"tower_qkv_a", "tower_qkv_b"}


@pytest.mark.parametrize(
    ("factors", "told"),
    [
        ({"prefix_layers.0.attention.q_proj": (np.zeros((3, 4)), np.zeros((4, 3)))}, "prefix_layers"),
        ({"prefix_layers.1.attention.q_proj": (np.zeros((3, 64)), np.zeros((64, 3)))}, "prefix_layers"),
        ({"expert.norm.dense": (np.zeros((3, 64)), np.zeros((192, 3)))}, "expert.norm.dense"),
        ({"action_in_proj": (np.zeros((4, 7)), np.zeros((9, 4)))}, "action_in_proj"),
        ({"action_in_proj": (np.zeros((3, 8)), np.zeros((9, 3)))}, "action_in_proj"),
    ],
)
def test_foreign_factors_are_refused_by_name(factors: Factors, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pack(CONFIG, factors, SCALE, RANK)
