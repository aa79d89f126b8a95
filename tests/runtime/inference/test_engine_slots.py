"""Slots of the torch engine: an adapter is as good as a bundle with merged weights, and swapping harms no chunk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from flexor.pi05.config import PRESETS
from flexor.pi05.lora import pack, random_adapter
from flexor.pi05.lora_targets import ALL_PAIRS, PAIRS, Pairs, target_sizes
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import Engine, EngineError, open_engine
from flexor.runtime.inference.memory import NotEnoughMemory, Room

CONFIG, SIZE = PRESETS["pi05-micro"], 0.4
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
TOKENS = np.concatenate([[1], RNG.integers(3, 280, 8)])
CLAMP = RNG.uniform(-1, 1, (3, 7)).astype(np.float32)


def ask(engine: Engine, slot: int, count: int = 1, clamp: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    noise = np.random.default_rng(1).standard_normal((count, 10, 7), np.float32)
    return engine.denoise(engine.encode(IMAGES, TOKENS, slot), noise, clamp, slot)[0]


@pytest.mark.parametrize("pairs", [PAIRS, ALL_PAIRS], ids=["shallow", "deep"])
def test_a_slot_answers_as_a_bundle_with_merged_weights(
    micro_bundle: Bundle, make_bundle: Callable[..., Bundle], pairs: Pairs
) -> None:
    rng, weights = np.random.default_rng(2), load_file(micro_bundle.weights_path)
    factors = {
        name: (rng.normal(0, size[0] ** -0.5, (4, size[0])), rng.normal(0, 0.15, (size[1], 4)))
        for name, size in target_sizes(CONFIG, pairs).items()
    }
    for name, (a, b) in factors.items():
        weights[f"{name}.weight"] = (weights[f"{name}.weight"] + b @ a).astype(np.float32)
    engine, merged = open_engine(micro_bundle), open_engine(make_bundle(weights=weights))
    engine.load_slot(3, pack(CONFIG, factors, 1.0, 4))
    for count, clamp in ((1, None), (8, CLAMP)):
        np.testing.assert_allclose(ask(engine, 3, count, clamp), ask(merged, 0, count, clamp), atol=1e-5)
        plain = ask(engine, 0, count, clamp)
        assert np.abs(ask(engine, 3, count, clamp) - plain).mean() > 0.1 * plain.std()


def test_prefixes_of_all_slots_stand_beside_each_other(micro_bundle: Bundle) -> None:
    engine = open_engine(micro_bundle)
    noise = np.random.default_rng(1).standard_normal((1, 10, 7), np.float32)
    for slot in range(1, engine.slots):
        engine.load_slot(slot, random_adapter(CONFIG, 2, SIZE, slot))
    prefixes = [engine.encode(IMAGES, TOKENS, slot) for slot in range(engine.slots)]
    for slot, prefix in enumerate(prefixes):
        np.testing.assert_array_equal(engine.denoise(prefix, noise, None, slot)[0], ask(engine, slot))
    assert engine.slots == 4 and engine.captures == 0


def test_an_adapter_of_the_expert_alone_reads_the_bundles_own_prefix(micro_bundle: Bundle) -> None:
    engine = open_engine(micro_bundle)
    noise = np.random.default_rng(1).standard_normal((1, 10, 7), np.float32)
    adapter = random_adapter(CONFIG, 2, SIZE, 1)
    engine.load_slot(1, {name: array * (not name.startswith("projector")) for name, array in adapter.items()})
    own = engine.denoise(engine.encode(IMAGES, TOKENS), noise, None, 1)[0]
    np.testing.assert_array_equal(own, ask(engine, 1))
    engine.load_slot(1, adapter)
    assert np.abs(own - ask(engine, 1)).max() > 1e-3


def test_a_call_is_of_one_adapter_while_another_thread_loads(micro_bundle: Bundle) -> None:
    drawn = (random_adapter(CONFIG, 2, SIZE, seed, pairs) for seed, pairs in {1: PAIRS, 2: ALL_PAIRS}.items())
    engine, adapters = open_engine(micro_bundle), [None, *drawn]
    noise, known, seen = np.random.default_rng(1).standard_normal((1, 10, 7), np.float32), [], []
    own = engine.encode(IMAGES, TOKENS)

    def sampled() -> NDArray[np.float32]:
        return engine.denoise(own, noise, None, 1)[0]

    def encoded() -> NDArray[np.float32]:
        return engine.denoise(engine.encode(IMAGES, TOKENS, 1), noise, None, 0)[0]

    for adapter in adapters:
        engine.load_slot(1, adapter)
        known.append(sampled())
        seen.append(encoded())

    def load() -> None:
        for turn in range(30):
            engine.load_slot(1, adapters[turn % 3])

    with ThreadPoolExecutor(1) as pool:
        loading, asked = pool.submit(load), 0
        while not loading.done():
            found, asked = (sampled(), encoded()), asked + 1
            assert any(np.array_equal(found[0], one) for one in known)
            assert any(np.array_equal(found[1], one) for one in seen)
        loading.result()
    assert asked > 0


def test_a_refused_adapter_leaves_its_slot_as_it_was(micro_bundle: Bundle) -> None:
    engine, adapter = open_engine(micro_bundle), random_adapter(CONFIG, 2, SIZE, 1)
    engine.load_slot(2, adapter)
    before = ask(engine, 2)
    spoilt = {**adapter, "down_b": np.full_like(adapter["down_b"], np.inf)}
    with pytest.raises(EngineError, match=r"slot 2 is as it was: down_b is inf at \[0, 0, 0\]; expected finite"):
        engine.load_slot(2, spoilt)
    with pytest.raises(EngineError, match="slot is 0; expected 1 to 3: slot 0 is the model's own"):
        engine.load_slot(0, adapter)
    np.testing.assert_array_equal(ask(engine, 2), before)


def test_an_adapter_that_reaches_the_prefix_is_refused_where_its_weights_find_no_room(
    micro_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(micro_bundle)
    room = Room(1000, "memory limit of its cgroup")
    monkeypatch.setattr("flexor.runtime.inference.torch_limits.host_room", lambda mapped: room)
    with pytest.raises(NotEnoughMemory, match=r"MiB more and 0 MiB are free \(memory limit.*profile=projector"):
        engine.load_slot(1, random_adapter(CONFIG, 2, SIZE, 1, ALL_PAIRS))
    engine.load_slot(1, random_adapter(CONFIG, 2, SIZE, 1))


def test_models_of_several_key_heads_carry_no_adapter(make_bundle: Callable[..., Bundle]) -> None:
    heads = {"depth": 2, "heads": 4, "kv_heads": 2, "head_dim": 8}
    config = replace(CONFIG, prefix=replace(CONFIG.prefix, **heads), expert=replace(CONFIG.expert, **heads))
    engine = open_engine(make_bundle(model=config))
    assert engine.slots == 1
    with pytest.raises(EngineError, match="several key heads carry no adapter"):
        engine.load_slot(1, random_adapter(config, 2, SIZE, 1))
