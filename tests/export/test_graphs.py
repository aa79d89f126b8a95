"""Both graphs as torch modules: they compute what the model computes, and all that goes in reaches the actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exported_bundles import RANK, STEPS, TOKENS, micro_model, question
from torch import Tensor

from flexor.export.graphs.expert_graph import ExpertGraph
from flexor.export.graphs.prefix_graph import PrefixGraph
from flexor.pi05.attention import rotary
from flexor.pi05.expert import AdaRms
from flexor.pi05.lora import packed_shapes, random_adapter, tensor_names
from flexor.pi05.lora_targets import EXPERT_PAIRS, PREFIX_PAIRS
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix
from flexor.pi05.program import Program

Given = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> Pi05:
    torch.set_num_threads(1)
    return micro_model()


@pytest.fixture(scope="module")
def prefix_graph(model: Pi05) -> PrefixGraph:
    return PrefixGraph(model, 2, TOKENS).eval()


@pytest.fixture(scope="module")
def expert_graph(model: Pi05, prefix_graph: PrefixGraph) -> ExpertGraph:
    return ExpertGraph(model, STEPS, prefix_graph.count).eval()


def padded(tokens: np.ndarray, filler: int) -> Tensor:
    row = torch.full((TOKENS,), filler)
    row[: len(tokens)] = torch.from_numpy(tokens)
    return row


def given(model: Pi05, prefix_graph: PrefixGraph, count: int = 1, clamped: int = 0, tokens: int = 9) -> Given:
    images, prompt, noise = question(tokens, count)
    cache, length = read(prefix_graph, images, padded(prompt, 5), tokens, zeros(model))
    generator = np.random.default_rng(1)
    return {
        "cache": cache,
        "length": length,
        "noise": torch.from_numpy(noise),
        "action_prefix": torch.from_numpy(generator.uniform(-1, 1, (10, 7)).astype(np.float32)),
        "action_prefix_length": torch.tensor([clamped]),
        "condition": torch.from_numpy(generator.normal(size=(count, 1, 32)).astype(np.float32)),
        "condition_mask": torch.zeros(count, dtype=torch.bool),
        **zeros(model),
    }


def zeros(model: Pi05) -> Given:
    return {name: torch.zeros(shape) for name, shape in packed_shapes(model.config, RANK).items()}


@torch.inference_mode()
def read(graph: PrefixGraph, images: np.ndarray, row: Tensor, tokens: int, adapter: Given) -> tuple[Tensor, Tensor]:
    asked = {"images": torch.from_numpy(images), "tokens": row, "token_count": torch.tensor([tokens])}
    return graph(*graph.arguments(asked | adapter))


def adapter(model: Pi05) -> Given:
    return {name: torch.from_numpy(array) for name, array in random_adapter(model.config, RANK, 0.4, 2).items()}


@torch.inference_mode()
def run(graph: ExpertGraph, inputs: Given) -> tuple[Tensor, Tensor]:
    return graph(*graph.arguments(inputs))


@pytest.mark.parametrize("tokens", [1, 9, TOKENS])
@torch.inference_mode()
def test_a_padded_prompt_gives_the_cache_of_the_prompt_alone(
    model: Pi05, prefix_graph: PrefixGraph, tokens: int
) -> None:
    images, prompt, _ = question(tokens)
    expected = model.encode(torch.from_numpy(images)[None], torch.from_numpy(prompt)[None])
    for filler in (0, 77):
        cache, length = read(prefix_graph, images, padded(prompt, filler), tokens, zeros(model))
        assert length.tolist() == [8 + tokens]
        for layer in range(model.config.prefix.depth):
            for side, theirs in enumerate((expected.keys[layer], expected.values[layer])):
                torch.testing.assert_close(cache[layer, side, : 8 + tokens], theirs[0, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("clamped", [0, 1, 5])
def test_the_expert_equals_the_model(
    model: Pi05, prefix_graph: PrefixGraph, expert_graph: ExpertGraph, count: int, clamped: int
) -> None:
    inputs = given(model, prefix_graph, count, clamped)
    images, prompt, _ = question(9, count)
    held = inputs["action_prefix"][:clamped] if clamped else None
    with torch.inference_mode():
        prefix = model.encode(torch.from_numpy(images)[None], torch.from_numpy(prompt)[None])
    actions, velocities = model.denoise(prefix, inputs["noise"], STEPS, held)
    found = run(expert_graph, inputs)
    torch.testing.assert_close(found[0], actions, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], velocities, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 8])
def test_an_adapter_equals_the_one_merged_into_the_weights(
    model: Pi05, prefix_graph: PrefixGraph, expert_graph: ExpertGraph, count: int
) -> None:
    inputs = given(model, prefix_graph, count, 2)
    images, prompt, _ = question(9, count)
    program = Program(model, STEPS)
    program.load_slot(1, {name: tensor.numpy() for name, tensor in adapter(model).items()})
    plain, merged = (
        program.denoise(
            program.encode(torch.from_numpy(images), torch.from_numpy(prompt), slot),
            inputs["noise"],
            inputs["action_prefix"][:2],
            slot,
        )[0]
        for slot in (0, 1)
    )
    assert (merged - plain).abs().mean() > 0.1 * plain.std()
    cache, _ = read(prefix_graph, images, padded(prompt, 5), 9, adapter(model))
    assert (cache - inputs["cache"]).abs().max() > 0.01
    found = run(expert_graph, inputs | adapter(model) | {"cache": cache})[0]
    torch.testing.assert_close(found, merged, atol=1e-5, rtol=1e-5)


def test_one_step_after_the_other_is_the_whole(
    model: Pi05, prefix_graph: PrefixGraph, expert_graph: ExpertGraph
) -> None:
    inputs = given(model, prefix_graph, 2, 3) | adapter(model)
    single = ExpertGraph(model, STEPS, prefix_graph.count, whole=False).eval()
    actions, velocities = run(expert_graph, inputs)
    state = dict(inputs)
    for step in range(STEPS):
        state["step"] = torch.tensor([step])
        state["noise"], velocity = run(single, state)
        torch.testing.assert_close(velocity, velocities[step], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(state["noise"], actions, atol=1e-6, rtol=1e-6)


def test_the_conditioning_token_is_one_more_entry_of_the_prefix_with_the_experts_own_keys_and_values(
    model: Pi05, prefix_graph: PrefixGraph, expert_graph: ExpertGraph
) -> None:
    inputs = given(model, prefix_graph, 1) | {"condition_mask": torch.ones(1, dtype=torch.bool)}
    images, prompt, _ = question(9)
    with torch.inference_mode():
        prefix = model.encode(torch.from_numpy(images)[None], torch.from_numpy(prompt)[None])
        still, rope = model.modulations(torch.zeros(1))[:, 0], rotary(torch.tensor([[17 + 10]]), 16, 10000.0)
        keys, values = [], []
        for index, layer in enumerate(model.expert.layers):
            normed = AdaRms.modulate(inputs["condition"], still[2 * index])[0]
            key, value = layer.attention.keys_values(normed, rope)  # type: ignore[union-attr]
            keys.append(torch.cat((prefix.keys[index], key), dim=2))
            values.append(torch.cat((prefix.values[index], value), dim=2))
        seeing = Prefix(keys=tuple(keys), values=tuple(values), mask=None, offset=prefix.offset)
    expected = model.denoise(seeing, inputs["noise"], STEPS)[0]
    assert (expected - model.denoise(prefix, inputs["noise"], STEPS)[0]).abs().max() > 1e-3
    torch.testing.assert_close(run(expert_graph, inputs)[0], expected, atol=1e-5, rtol=1e-5)


def test_every_sample_sees_its_own_conditioning_token(
    model: Pi05, prefix_graph: PrefixGraph, expert_graph: ExpertGraph
) -> None:
    inputs = given(model, prefix_graph, 3) | {"condition_mask": torch.tensor([True, False, True])}
    together = run(expert_graph, inputs)[0]
    for place in range(3):
        row = slice(place, place + 1)
        alone = inputs | {name: inputs[name][row] for name in ("noise", "condition", "condition_mask")}
        torch.testing.assert_close(together[row], run(expert_graph, alone)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 8])
def test_what_is_masked_or_zero_changes_no_bit(
    model: Pi05, prefix_graph: PrefixGraph, expert_graph: ExpertGraph, count: int
) -> None:
    inputs = given(model, prefix_graph, count, 2)
    before = run(expert_graph, inputs)[0]
    behind = {"action_prefix": torch.cat((inputs["action_prefix"][:2], torch.full((8, 7), 9.0)))}
    stale = inputs["cache"].clone()
    stale[:, :, int(inputs["length"]) :] = 3.0
    only_a = {name: tensor for name, tensor in adapter(model).items() if name.endswith("_a")}
    only_b = {name: tensor for name, tensor in adapter(model).items() if name.endswith("_b")}
    for change in ({"condition": inputs["condition"] * -9}, behind, {"cache": stale}, only_a, only_b):
        assert torch.equal(run(expert_graph, inputs | change)[0], before), list(change)


def test_half_an_adapter_of_the_projector_changes_no_bit_and_the_whole_of_it_does(
    model: Pi05, prefix_graph: PrefixGraph
) -> None:
    images, prompt, _ = question(9)
    drawn, none = adapter(model), zeros(model)
    before = read(prefix_graph, images, padded(prompt, 0), 9, none)[0]
    for name in tensor_names(PREFIX_PAIRS):
        half = read(prefix_graph, images, padded(prompt, 0), 9, none | {name: drawn[name]})[0]
        assert torch.equal(half, before), name
    assert not torch.equal(read(prefix_graph, images, padded(prompt, 0), 9, drawn)[0], before)


def test_every_input_and_every_layer_of_an_adapter_reaches_the_actions(
    model: Pi05, prefix_graph: PrefixGraph, expert_graph: ExpertGraph
) -> None:
    inputs = given(model, prefix_graph, 1, 2) | adapter(model) | {"condition_mask": torch.ones(1, dtype=torch.bool)}
    before = run(expert_graph, inputs)[0]
    changes: list[tuple[str, Tensor]] = [("length", inputs["length"] - 1), ("action_prefix_length", torch.tensor([3]))]
    changes += [(name, inputs[name] + 0.1) for name in ("noise", "action_prefix", "condition")]
    for layer in range(model.config.expert.depth):
        for side in (0, 1):
            cache = inputs["cache"].clone()
            cache[layer, side, 0] += 1.0
            changes.append(("cache", cache))
        for name in tensor_names(EXPERT_PAIRS):
            tensor = inputs[name].clone()
            tensor[layer if tensor.ndim == 3 else ...] *= 1.2
            changes.append((name, tensor))
    for name, tensor in changes:
        assert (run(expert_graph, inputs | {name: tensor})[0] - before).abs().max() > 1e-6, name


def test_every_weight_reaches_the_actions(model: Pi05) -> None:
    images, prompt, _ = question(9)
    unused = ("prefix_norm.", "prefix_layers.1.attention.q", "prefix_layers.1.attention.o", "prefix_layers.1.mlp")

    def chunk() -> Tensor:
        graph = PrefixGraph(model, 2, TOKENS)
        cache, length = read(graph, images, padded(prompt, 0), 9, zeros(model))
        expert = ExpertGraph(model, 1, graph.count)
        inputs = given(model, graph) | {"cache": cache, "length": length}
        return run(expert, inputs)[0]

    with torch.inference_mode():
        before = chunk()
        for name, weight in model.named_parameters():
            if name.startswith(unused):
                continue
            kept, generator = weight.clone(), torch.Generator().manual_seed(1)
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
            assert (chunk() - before).abs().max() > 1e-7, name
            weight.copy_(kept)
