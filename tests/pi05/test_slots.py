"""Slots: a program with an adapter computes what a model with merged weights would, and refuses what is no adapter."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.pi05.lora import pack, packed_shapes, random_adapter
from flexor.pi05.lora_targets import ALL_PAIRS, OUTER_PAIRS, PAIRS, PREFIX_PAIRS, READER_PAIRS, Pairs, target_sizes
from flexor.pi05.model import Pi05
from flexor.pi05.program import Program

Draw = Callable[[Pi05, int, int, int], tuple[Tensor, Tensor]]
Adapter = dict[str, NDArray[np.float32]]
RANK, SIZE, STEPS = 3, 0.4, 5


def chunks(program: Program, inputs: Draw, micro: Pi05, count: int, slot: int, clamped: int = 0) -> Tensor:
    images, tokens = inputs(micro, 1, 2, 9)
    noise = torch.randn(count, 10, 7, generator=torch.Generator().manual_seed(2))
    held = torch.linspace(-1, 1, clamped * 7).view(clamped, 7) if clamped else None
    return program.denoise(program.encode(images[0], tokens[0], slot), noise, held, slot)[0]


@pytest.mark.parametrize("pairs", [PAIRS, ALL_PAIRS], ids=["shallow", "deep"])
@pytest.mark.parametrize("clamped", [0, 4])
@pytest.mark.parametrize("count", [1, 8])
def test_an_adapter_equals_its_product_added_to_the_weights(
    micro: Pi05, inputs: Draw, count: int, clamped: int, pairs: Pairs
) -> None:
    rng, scale, merged = np.random.default_rng(1), 2.0, copy.deepcopy(micro)
    factors = {
        name: (rng.normal(0, size[0] ** -0.5, (RANK, size[0])), rng.normal(0, 0.1, (size[1], RANK)))
        for name, size in target_sizes(micro.config, pairs).items()
    }
    for name, (a, b) in factors.items():
        merged.get_parameter(f"{name}.weight").add_(torch.from_numpy(scale * b @ a).float())
    program = Program(micro, STEPS)
    program.load_slot(2, pack(micro.config, factors, scale, RANK + 1))
    images, tokens = inputs(micro, 1, 2, 9)
    noise = torch.randn(count, 10, 7)
    held = torch.randn(clamped, 7) if clamped else None
    expected = merged.denoise(merged.encode(images, tokens), noise, STEPS, held)
    plain = micro.denoise(micro.encode(images, tokens), noise, STEPS, held)
    found = program.denoise(program.encode(images[0], tokens[0], 2), noise, held, slot=2)
    assert (expected[0] - plain[0]).abs().mean() > 0.1 * plain[0].std()
    assert (found[0] - expected[0]).abs().max() <= 1e-5
    assert (found[1] - expected[1]).abs().max() <= 2e-5


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("pair", ALL_PAIRS)
def test_every_tensor_of_an_adapter_reaches_the_actions(micro: Pi05, inputs: Draw, pair: str, side: str) -> None:
    adapter = random_adapter(micro.config, RANK, SIZE, seed=3, pairs=ALL_PAIRS)
    program = Program(micro, STEPS)
    program.load_slot(1, adapter)
    before = chunks(program, inputs, micro, 1, 1)
    layers = [None] if pair in {**PREFIX_PAIRS, **OUTER_PAIRS} else list(range(len(adapter[f"{pair}_a"])))
    if pair in READER_PAIRS and pair != "reader_qkv":
        layers = layers[:-1]  # of the last one only keys and values are used
    for layer in layers:
        changed = {name: array.copy() for name, array in adapter.items()}
        changed[f"{pair}_{side}"][layer if layer is not None else ...] *= 1.1
        program.load_slot(1, changed)
        assert (chunks(program, inputs, micro, 1, 1) - before).abs().max() > 1e-5, layer


@pytest.mark.parametrize("pairs", [PAIRS, ALL_PAIRS], ids=["shallow", "deep"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "fp8"])
def test_an_adapter_of_zeros_changes_no_bit(micro: Pi05, inputs: Draw, precision: str, pairs: Pairs) -> None:
    program = Program(micro, STEPS, precision, precision)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in packed_shapes(micro.config, RANK, pairs).items()}
    program.load_slot(1, zeros)
    for count in (1, 8):
        assert torch.equal(chunks(program, inputs, micro, count, 1, 3), chunks(program, inputs, micro, count, 0, 3))


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.99), ("fp8", 0.99)])
def test_a_narrow_expert_carries_an_adapter_as_a_merged_model_does(
    micro: Pi05, inputs: Draw, precision: str, least: float
) -> None:
    adapter = random_adapter(micro.config, RANK, SIZE, seed=3)
    found, expected = (
        (_carrying(micro, kind, adapter), chunks(_carrying(micro, kind, adapter), inputs, micro, 8, 1).flatten())
        for kind in (precision, "fp32")
    )
    plain = chunks(expected[0], inputs, micro, 8, 0).flatten()
    assert (expected[1] - plain).abs().mean() > 0.1 * plain.std()
    assert torch.cosine_similarity(found[1], expected[1], dim=0) > least
    # Not only the actions: what the adapter changes of them is there, too.
    change = found[1] - chunks(found[0], inputs, micro, 8, 0).flatten()
    assert torch.cosine_similarity(change, expected[1] - plain, dim=0) > 0.95


def _carrying(model: Pi05, precision: str, adapter: Adapter) -> Program:
    program = Program(model, STEPS, expert=precision)
    program.load_slot(1, adapter)
    return program


def test_slots_swap_back_and_forth_bit_for_bit(micro: Pi05, inputs: Draw) -> None:
    kinds = {2: PAIRS, 5: ALL_PAIRS}  # one that changes what sees and reads comes and goes, too
    first, second = (random_adapter(micro.config, rank, SIZE, rank, pairs) for rank, pairs in kinds.items())
    cold = [chunks(_carrying(micro, "fp32", adapter), inputs, micro, 8, 1) for adapter in (first, second)]
    program = Program(micro, STEPS)
    base = chunks(program, inputs, micro, 8, 0)
    assert not torch.equal(cold[0], cold[1]) and not torch.equal(cold[0], base)
    ways = ((first, cold[0]), (second, cold[1]), (first, cold[0]), (None, base), (second, cold[1]), (None, base))
    for adapter, expected in ways:
        program.load_slot(3, adapter)
        assert torch.equal(chunks(program, inputs, micro, 8, 3), expected)
        assert torch.equal(chunks(program, inputs, micro, 8, 0), base)
        assert torch.equal(chunks(program, inputs, micro, 8, 1), base)  # never loaded


def _spoilt(adapter: Adapter, name: str, array: NDArray[np.generic] | None) -> Adapter:
    kept = {key: value for key, value in adapter.items() if key != name}
    return kept if array is None else {**kept, name: array}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("qkv_b", lambda x: None, r"qkv_b is missing; expected float32 \[2, 96, 9\]"),
        ("o_a", lambda x: None, r"o_a is missing; expected \[2, 1, 64\] with r"),
        ("down_a", lambda x: x[:, :2], r"down_a is float32 \[2, 2, 64\]; expected float32 \[2, 3, 64\]"),
        ("gate_up_b", lambda x: x.astype(np.float64), "gate_up_b is float64 .*; expected float32"),
        (
            "action_out_b",
            lambda x: np.where(x == x.flat[4], np.nan, x),
            r"action_out_b is nan at \[1, 1\]; expected fin",
        ),
        ("qkv_a", lambda x: np.full_like(x, 3e38), "qkv_b times qkv_a added to expert.layers.0.* is not finite"),
        ("other", lambda x: np.zeros(1, np.float32), "other is unknown; an adapter has projector_a"),
        ("tower_o_a", lambda x: np.zeros((2, 3, 64), np.float32), "tower_qkv_a is missing; expected float32"),
    ],
)
def test_what_is_no_adapter_of_the_model_leaves_the_slot_as_it_was(
    micro: Pi05, inputs: Draw, name: str, spoil: Callable[[NDArray[np.float32]], NDArray[np.generic] | None], told: str
) -> None:
    adapter = random_adapter(micro.config, RANK, SIZE, seed=3)
    program = _carrying(micro, "fp32", adapter)
    before = chunks(program, inputs, micro, 1, 1)
    other = random_adapter(micro.config, RANK, SIZE, seed=4)
    with pytest.raises(ValueError, match=told):
        program.load_slot(1, _spoilt(other, name, spoil(other.get(name, np.zeros(0, np.float32)))))
    assert torch.equal(chunks(program, inputs, micro, 1, 1), before)


@pytest.mark.parametrize("slot", [-1, 0, 4])
def test_a_slot_that_is_none_for_adapters_is_refused(micro: Pi05, inputs: Draw, slot: int) -> None:
    program = Program(micro, STEPS)
    with pytest.raises(ValueError, match=f"slot is {slot}; expected 1 to 3"):
        program.load_slot(slot, None)
    if slot:
        with pytest.raises(ValueError, match=f"slot is {slot}; expected 0 to 3"):
            chunks(program, inputs, micro, 1, slot)


def test_the_models_own_weights_stay_as_they_are(micro: Pi05) -> None:
    before = copy.deepcopy(micro.state_dict())
    _carrying(micro, "fp32", random_adapter(micro.config, RANK, SIZE, 3, ALL_PAIRS))
    assert all(torch.equal(tensor, before[name]) for name, tensor in micro.state_dict().items())
