"""The torch engine against the plain model, and what it refuses to load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.engine import EngineError, open_engine

BundleMaker = Callable[..., Bundle]


def question(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of two cameras and a prompt of nine tokens."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    return images, np.concatenate([[1], generator.integers(3, 280, 8)])


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 10, 7), np.float32)


@pytest.fixture(scope="module")
def plain() -> Pi05:
    """The model whose weights `micro_bundle` holds."""
    model = Pi05(PRESETS["pi05-micro"])
    randomise(model, 7)
    return model.eval()


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("clamped", [0, 1, 5])
def test_the_engine_computes_what_the_model_computes(
    micro_bundle: Bundle, plain: Pi05, count: int, clamped: int
) -> None:
    images, tokens = question()
    clamp = np.random.default_rng(5).uniform(-1, 1, (clamped, 7)).astype(np.float32) if clamped else None
    engine = open_engine(micro_bundle)
    actions, velocities = engine.denoise(engine.encode(images, tokens), noise(count), clamp)
    with torch.inference_mode():
        prefix = plain.encode(torch.from_numpy(images)[None], torch.from_numpy(tokens)[None], None, None)
        given = None if clamp is None else torch.from_numpy(clamp)
        expected = plain.denoise(prefix, torch.from_numpy(noise(count)), 10, given)
    assert actions.dtype == velocities.dtype == np.float32
    np.testing.assert_allclose(actions, expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(velocities, expected[1].numpy(), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_number_of_flow_steps_can_be_chosen(micro_bundle: Bundle, plain: Pi05, steps: int) -> None:
    images, tokens = question()
    engine = open_engine(micro_bundle, flow_steps=steps)
    actions, velocities = engine.denoise(engine.encode(images, tokens), noise(1), None)
    with torch.inference_mode():
        prefix = plain.encode(torch.from_numpy(images)[None], torch.from_numpy(tokens)[None], None, None)
        expected = plain.denoise(prefix, torch.from_numpy(noise(1)), steps, None)[0].numpy()
    assert engine.flow_steps == len(velocities) == steps
    np.testing.assert_allclose(actions, expected, atol=1e-5)


def test_several_key_heads_and_another_depth_are_computed_alike(make_bundle: BundleMaker) -> None:
    heads = {"depth": 3, "heads": 6, "kv_heads": 2, "head_dim": 8}
    micro = PRESETS["pi05-micro"]
    config = replace(micro, prefix=replace(micro.prefix, **heads), expert=replace(micro.expert, **heads))
    engine = open_engine(make_bundle(model=config))
    model = Pi05(config)
    randomise(model, 7)
    images, tokens = question()
    with torch.inference_mode():
        prefix = model.encode(torch.from_numpy(images)[None], torch.from_numpy(tokens)[None])
        expected = model.denoise(prefix, torch.from_numpy(noise(2)), 10)[0].numpy()
    np.testing.assert_allclose(engine.denoise(engine.encode(images, tokens), noise(2), None)[0], expected, atol=1e-5)


def test_every_weight_reaches_the_actions(make_bundle: BundleMaker, micro_bundle: Bundle) -> None:
    """Tensors of the expert are laid out anew by the engine; none may be lost on the way."""
    weights = load_file(micro_bundle.weights_path)
    images, tokens = question()
    engine = open_engine(micro_bundle)
    before = engine.denoise(engine.encode(images, tokens), noise(1), None)[0]
    expert = [name for name in weights if name.startswith(("expert.", "action_", "time_"))]
    assert len(expert) > 20
    for name in expert:
        nudge = np.random.default_rng(1).normal(0, 0.05, weights[name].shape).astype(np.float32)
        nudged = open_engine(make_bundle(weights={**weights, name: weights[name] + nudge}))
        after = nudged.denoise(nudged.encode(images, tokens), noise(1), None)[0]
        assert np.abs(after - before).max() > 1e-6, name


def test_samples_of_one_call_do_not_see_each_other(micro_bundle: Bundle) -> None:
    engine = open_engine(micro_bundle)
    prefix = engine.encode(*question())
    together = engine.denoise(prefix, noise(8), None)[0]
    for index in range(8):
        alone = engine.denoise(prefix, noise(8)[index : index + 1], None)[0]
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-5)


def test_the_prefix_outlives_later_calls(micro_bundle: Bundle) -> None:
    engine = open_engine(micro_bundle)
    first = engine.encode(*question(1))
    before = engine.denoise(first, noise(1), None)[0]
    engine.denoise(engine.encode(*question(2)), noise(8), None)
    np.testing.assert_array_equal(engine.denoise(first, noise(1), None)[0], before)


def test_weights_stored_in_half_precision_are_served_in_single(make_bundle: BundleMaker, micro_bundle: Bundle) -> None:
    single = load_file(micro_bundle.weights_path)
    half = {name: tensor.astype(np.float16) for name, tensor in single.items()}
    rounded = {name: tensor.astype(np.float32) for name, tensor in half.items()}
    answers = []
    for weights in (half, rounded):
        engine = open_engine(make_bundle(weights=weights))
        answers.append(engine.denoise(engine.encode(*question()), noise(1), None)[0])
    assert answers[0].dtype == np.float32
    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.parametrize(
    ("asked", "told", "least"),
    [("bf16", "bf16", 0.999), ("int8", "int8+bf16", 0.99), ("int8+fp32", "int8+fp32", 0.99), ("fp32+fp32", "fp32", 1)],
)
def test_a_precision_is_close_to_fp32_and_says_what_it_is(
    micro_bundle: Bundle, asked: str, told: str, least: float
) -> None:
    def ask(precision: str) -> tuple[str, NDArray[np.float32]]:
        engine = open_engine(micro_bundle, precision=precision)
        return engine.precision, engine.denoise(engine.encode(*question()), noise(1), None)[0].ravel()

    (_, single), (precision, found) = ask("fp32"), ask(asked)
    assert precision == told
    assert np.array_equal(single, found) == (told == "fp32")
    assert single @ found / np.linalg.norm(single) / np.linalg.norm(found) > least - 1e-6


def test_each_engine_uses_its_own_number_of_threads(micro_bundle: Bundle) -> None:
    """The count is one for the process; two engines that take turns each set their own."""
    one, two = open_engine(micro_bundle, threads=1), open_engine(micro_bundle, threads=2)
    for engine, threads in ((one, 1), (two, 2), (one, 1)):
        prefix = engine.encode(*question())
        assert torch.get_num_threads() == threads
        engine.denoise(prefix, noise(1), None)
        assert torch.get_num_threads() == threads


WRONG_WEIGHTS: dict[str, tuple[Callable[[dict[str, np.ndarray]], Any], str]] = {
    "missing": (lambda w: w.pop("action_in_proj.bias"), "lacks the tensor action_in_proj.bias"),
    "unknown": (lambda w: w.update(lora=np.zeros(1, np.float32)), r"unknown tensors \['lora'\]"),
    "shape": (lambda w: w.update({"action_in_proj.bias": np.zeros(3, np.float32)}), r"action_in_proj.bias .* \[3\]"),
    "integers": (lambda w: w.update({"action_in_proj.bias": np.zeros(32, np.int64)}), "int64"),
    "NaN": (lambda w: w.update({"action_in_proj.bias": np.full(32, np.nan, np.float32)}), "not finite"),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_weights_of_another_model_are_refused_by_name(
    make_bundle: BundleMaker, micro_bundle: Bundle, case: str
) -> None:
    change, message = WRONG_WEIGHTS[case]
    weights = load_file(micro_bundle.weights_path)
    change(weights)
    with pytest.raises(BundleError, match=message):
        open_engine(make_bundle(weights=weights))


def test_weights_that_are_no_safetensors_file_are_refused(make_bundle: BundleMaker) -> None:
    bundle = make_bundle(weights=lambda path: path.write_bytes(b"\x80\x04 not tensors"))
    with pytest.raises(BundleError, match="is not a safetensors file"):
        open_engine(bundle)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "onnxx"}, "engine 'onnxx' does not exist; choose one of: torch"),
        ({"precision": "int4"}, "no precision 'int4'; choose one of: fp32, bf16, int8, int8w, fp8, bnb8, or two"),
        ({"precision": "int8+"}, r"no precision 'int8\+'"),
        ({"threads": 0}, "threads is 0"),
        ({"flow_steps": 0}, "flow_steps is 0"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(micro_bundle: Bundle, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(micro_bundle, **settings)


def test_bitsandbytes_is_imported_for_its_own_precision_alone_and_missed_by_name(micro_bundle: Bundle) -> None:
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "bitsandbytes":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
sys.meta_path.insert(0, Blocked())
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError, open_engine
bundle = Bundle.open(sys.argv[1])
print(open_engine(bundle, precision="int8").precision)
try:
    open_engine(bundle, precision="bf16+bnb8")
except EngineError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(micro_bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    loaded, missed = done.stdout.splitlines()
    assert loaded == "int8+bf16"
    assert missed == "engine 'torch' needs bitsandbytes, which is not installed; pip install 'flexor[torch]'"
