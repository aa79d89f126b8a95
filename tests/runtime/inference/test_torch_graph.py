"""What a GPU records, run without recording beside the plain program; and recorded, where there is a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flexor.pi05.config import PRESETS
from flexor.pi05.expert_weights import weight_tensors
from flexor.pi05.init import randomise
from flexor.pi05.lora import random_adapter
from flexor.pi05.lora_targets import ALL_PAIRS, PAIRS
from flexor.pi05.model import Pi05
from flexor.pi05.products import DTYPES
from flexor.pi05.program import Program
from flexor.pi05.static_denoiser import StaticDenoiser
from flexor.pi05.static_encoder import StaticEncoder
from flexor.runtime.inference.torch_graph import CudaRecorder, GraphProgram

CONFIG, STEPS, SAMPLES = PRESETS["pi05-micro"], 4, (1, 8)
ADAPTERS = {
    slot: random_adapter(CONFIG, rank=2 + slot, size=0.4, seed=slot, pairs=pairs)
    for slot, pairs in {1: PAIRS, 3: ALL_PAIRS}.items()
}


def drawn_model() -> Pi05:
    model = Pi05(CONFIG)
    randomise(model, 7)
    return model.eval().requires_grad_(False)


def question(
    length: int, count: int = 1, clamped: int = 0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images of two cameras, a prompt, noise, and committed actions."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    tokens = torch.randint(0, CONFIG.vocab_size, (length,), generator=generator)
    noise = torch.randn(count, 10, 7, generator=generator)
    return images, tokens, noise, torch.rand(clamped, 7, generator=generator) if clamped else None


def not_recorded(work: Callable[[], None]) -> Callable[[], None]:
    return work


def ask(program: Program | GraphProgram, slot: int, *asked: Tensor | None) -> tuple[Tensor, Tensor]:
    images, tokens, noise, held = asked
    return program.denoise(program.encode(images, tokens, slot), noise, held, slot)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plain() -> Program:
    program = Program(drawn_model(), STEPS)
    for slot, adapter in ADAPTERS.items():
        program.load_slot(slot, adapter)
    return program


@pytest.fixture(scope="module")
def static() -> GraphProgram:
    program = GraphProgram(Program(drawn_model(), STEPS), 2, SAMPLES, not_recorded)
    for slot, adapter in ADAPTERS.items():
        program.load_slot(slot, adapter)
    return program


@pytest.mark.parametrize(
    ("length", "count", "clamped", "slot"),
    [
        (1, 1, 0, 0),
        (31, 8, 1, 1),
        (32, 1, 9, 3),
        (33, 8, 0, 2),
        (40, 1, 5, 0),
        (40, 3, 0, 1),
        (12, 11, 4, 3),
        (20, 1, 0, 1),
        (20, 8, 9, 0),
    ],
)
def test_fixed_shapes_change_no_number(
    plain: Program, static: GraphProgram, length: int, count: int, clamped: int, slot: int
) -> None:
    asked = question(length, count, clamped, seed=length + count)
    found, expected = ask(static, slot, *asked), ask(plain, slot, *asked)
    assert found[0].shape == (count, 10, 7) and found[1].shape == (STEPS, count, 10, 7)
    assert (found[0] - expected[0]).abs().max() <= 1e-5
    assert (found[1] - expected[1]).abs().max() <= 1e-5
    if clamped:
        assert all(torch.equal(chunk[:clamped], asked[3]) for chunk in found[0])  # type: ignore[arg-type]


def test_the_plain_model_says_the_same(static: GraphProgram) -> None:
    model, (images, tokens, noise, held) = drawn_model(), question(17, 8, 3)
    expected = model.denoise(model.encode(images[None], tokens[None]), noise, STEPS, held)
    found = ask(static, 0, images, tokens, noise, held)
    assert (found[0] - expected[0]).abs().max() <= 1e-5


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("fp8", 0.99)])
def test_a_narrow_expert_is_as_close_with_fixed_shapes(plain: Program, precision: str, least: float) -> None:
    static = GraphProgram(Program(drawn_model(), STEPS, expert=precision), 2, SAMPLES, not_recorded)
    static.load_slot(1, ADAPTERS[1])
    for slot in (0, 1):
        asked = question(20, 8, 2)
        found, expected = ask(static, slot, *asked)[0], ask(plain, slot, *asked)[0]
        assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > least


def test_a_prefix_and_results_outlive_later_calls(static: GraphProgram) -> None:
    images, tokens, noise, _ = question(9)
    first = static.encode(images, tokens)
    actions, velocities = static.denoise(first, noise)
    kept = actions.clone(), velocities.clone()
    ask(static, 1, *question(40, 8, 2, seed=5))
    assert torch.equal(actions, kept[0]) and torch.equal(velocities, kept[1])
    again = static.denoise(first, noise)
    assert torch.equal(again[0], kept[0]) and torch.equal(again[1], kept[1])


def test_numbers_that_are_not_finite_end_with_their_call(static: GraphProgram) -> None:
    asked = question(5)
    before = ask(static, 0, *asked)[0]
    spoilt = question(40, seed=3)
    assert not ask(static, 0, torch.full_like(spoilt[0], torch.nan), *spoilt[1:])[0].isfinite().any()
    assert torch.equal(ask(static, 0, *asked)[0], before)


def test_swaps_equal_a_cold_load_and_record_nothing() -> None:
    recorded: list[Callable[[], None]] = []

    def record(work: Callable[[], None]) -> Callable[[], None]:
        recorded.append(work)
        return work

    program = GraphProgram(Program(drawn_model(), STEPS), 2, SAMPLES, record)
    asked = question(12, 8, 2)
    base = ask(program, 0, *asked)[0]
    before = len(recorded)
    storage = [tensor.data_ptr() for weights in program._slots for tensor in weight_tensors(weights)]
    for adapter in (1, 3, 1, None):
        cold = GraphProgram(Program(drawn_model(), STEPS), 2, SAMPLES, not_recorded)
        if adapter is not None:
            cold.load_slot(2, ADAPTERS[adapter])
        program.load_slot(2, None if adapter is None else ADAPTERS[adapter])
        assert torch.equal(ask(program, 2, *asked)[0], ask(cold, 2, *asked)[0])
        assert torch.equal(ask(program, 0, *asked)[0], base)
    assert torch.equal(ask(program, 2, *asked)[0], base)
    assert len(recorded) == before == 2 * 4 + 2  # numbers of samples by slots, and lengths of prompts
    now = [tensor.data_ptr() for weights in program._slots for tensor in weight_tensors(weights)]
    assert now == storage


def test_every_call_is_of_one_adapter_while_another_thread_loads(static: GraphProgram) -> None:
    """A call, not the two of a chunk: adapters are only loaded into slots that no chunk is being made with."""
    images, tokens, noise, _ = question(8, 8)
    program = GraphProgram(Program(drawn_model(), STEPS), 2, SAMPLES, not_recorded)
    prefix, prefixes, chunks = program.encode(images, tokens, 0), [], []
    for adapter in (None, ADAPTERS[1], ADAPTERS[3]):
        program.load_slot(1, adapter)
        prefixes.append(program.encode(images, tokens, 1).keys)
        chunks.append(program.denoise(prefix, noise, None, 1)[0])

    def load() -> None:
        torch.set_num_threads(1)  # a new thread has another number, with which sums differ in their last bit
        for turn in range(9):
            program.load_slot(1, (None, ADAPTERS[1], ADAPTERS[3])[turn % 3])

    with ThreadPoolExecutor(1) as pool:
        loading, calls = pool.submit(load), 0
        while not loading.done():
            keys, calls = program.encode(images, tokens, 1).keys, calls + 1
            assert any(torch.equal(keys, one) for one in prefixes)
            found, _ = program.denoise(prefix, noise, None, 1)
            assert any(torch.equal(found, one) for one in chunks)
        loading.result()
    assert calls > 0


def test_wrong_requests_are_refused_by_name(static: GraphProgram) -> None:
    images, tokens, noise, _ = question(9)
    with pytest.raises(ValueError, match=r"images \[1, 3, 32, 32\] and tokens \[9\]; expected \[2, 3, 32, 32\]"):
        static.encode(images[:1], tokens)
    for wrong in (tokens[:0], torch.zeros(41, dtype=torch.int64)):
        with pytest.raises(ValueError, match="with T from 1 to 40"):
            static.encode(images, wrong)
    prefix = static.encode(images, tokens)
    with pytest.raises(ValueError, match="noise has shape"):
        static.denoise(prefix, noise[:, :9])
    with pytest.raises(ValueError, match="slot is 4; expected 0 to 3"):
        static.denoise(prefix, noise, slot=4)
    with pytest.raises(ValueError, match="slot is 0; expected 1 to 3"):
        static.load_slot(0, None)
    with pytest.raises(ValueError, match="o_a is missing"):
        static.load_slot(1, {"qkv_a": np.zeros(1, np.float32)})


class _Devices(TorchDispatchMode):
    """Where the tensors of all operators are."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        self.seen.setdefault(str(func), set()).update(tensor.device.type for tensor in tensors)
        return out


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@torch.no_grad()
def test_what_is_recorded_never_looks_at_the_host(precision: str) -> None:
    """On a device without numbers: reading one would fail, and a tensor of the host would show."""
    with torch.device("meta"):
        model = Pi05(CONFIG)
    program = Program(model, STEPS, precision, precision)
    encoder = StaticEncoder(program, 2, DTYPES[precision])
    denoiser = StaticDenoiser(program, encoder, 8)
    with _Devices() as devices:
        encoder.run(32)
        denoiser.run(program.expert.weights(0))
    assert len(devices.seen) > 20
    assert not {name: seen for name, seen in devices.seen.items() if seen - {"meta"}}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_graphs_compute_what_their_work_does(precision: str) -> None:
    device = torch.device("cuda:0")
    recorder = CudaRecorder(device)
    recorded = GraphProgram(Program(drawn_model().to(device), STEPS, precision, precision), 2, SAMPLES, recorder)
    work = GraphProgram(Program(drawn_model().to(device), STEPS, precision, precision), 2, SAMPLES, not_recorded)
    for slot, adapter in ADAPTERS.items():
        recorded.load_slot(slot, adapter)
        work.load_slot(slot, adapter)
    for length, count, clamped, slot in ((1, 1, 0, 0), (40, 8, 2, 1), (33, 3, 0, 3), (5, 1, 9, 2)):
        asked = question(length, count, clamped)
        there = [None if part is None else part.to(device) for part in asked]
        found, expected = ask(recorded, slot, *there), ask(work, slot, *there)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert recorder.captures == 2 * 4 + 2


@pytest.mark.gpu
def test_a_swap_on_a_gpu_captures_nothing_moves_nothing_and_equals_a_cold_load() -> None:
    device = torch.device("cuda:0")
    recorder = CudaRecorder(device)
    program = GraphProgram(Program(drawn_model().to(device), STEPS, "bf16", "bf16"), 2, SAMPLES, recorder)
    asked = [None if part is None else part.to(device) for part in question(12, 8, 2)]
    ask(program, 0, *asked)
    captures = recorder.captures
    storage = [tensor.data_ptr() for weights in program._slots for tensor in weight_tensors(weights)]
    for adapter in (1, 3, 1):
        cold = GraphProgram(Program(drawn_model().to(device), STEPS, "bf16", "bf16"), 2, SAMPLES, CudaRecorder(device))
        cold.load_slot(1, ADAPTERS[adapter])
        thread = threading.Thread(target=program.load_slot, args=(1, ADAPTERS[adapter]))
        thread.start()
        thread.join()
        assert torch.equal(ask(program, 1, *asked)[0], ask(cold, 1, *asked)[0])
    assert recorder.captures == captures
    now = [tensor.data_ptr() for weights in program._slots for tensor in weight_tensors(weights)]
    assert now == storage
