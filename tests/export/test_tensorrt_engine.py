"""The engine class on TensorRT: what it asks of the bindings is theirs, and what it makes of a GPU is the policy."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from exported_bundles import RANK, STEPS, ask, rehash
from tensorrt_double import Bindings, Cuda

from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.export.tensorrt.targets import CURRENT
from flexor.pi05.lora import random_adapter
from flexor.runtime.inference import cuda_device
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle
from flexor.runtime.inference.cuda_device import CudaError, capability, count_devices
from flexor.runtime.inference.engine import EngineError, open_engine
from flexor.runtime.inference.tensorrt_engine import KERNELS
from flexor.runtime.inference.tensorrt_graph import deserialize
from flexor.runtime.inference.tensorrt_library import FULL, RTX, TensorrtLibrary

VERSION = TensorrtLibrary.load(RTX).version
BUILT_FOR = {"library": RTX, "version": VERSION, "targets": "sm86,sm89", "most_samples": "8"}
MOST = 8


@pytest.fixture
def bundle(exported: Bundle, tmp_path: Path) -> Bundle:
    """Says that it holds engines; the files are the ONNX graphs that they would be built from."""
    folder = tmp_path / "engines"
    shutil.copytree(exported.path, folder)
    told = json.loads((folder / BUNDLE_JSON).read_text())
    for role in ("prefix", "expert"):
        (folder / f"{role}.onnx").rename(folder / f"{role}.engine")
        told["files"][f"{role}.engine"] = told["files"].pop(f"{role}.onnx")
    (folder / BUNDLE_JSON).write_text(json.dumps(told))
    return rehash(folder, format="tensorrt", built_for=BUILT_FOR)


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> Bindings:
    made = Bindings(MOST)
    monkeypatch.setattr(TensorrtLibrary, "load", lambda name: TensorrtLibrary(name, made.module))
    return made


@pytest.fixture
def gpu(bindings: Bindings, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda("sm89")
    monkeypatch.setattr(cuda_device, "runtime", made)
    return made


def test_it_computes_what_the_graphs_compute_with_adapters_and_any_number_of_samples(
    gpu: Cuda, bundle: Bundle, exported: Bundle
) -> None:
    engine, onnx = open_engine(bundle), open_engine(exported)
    assert (engine.name, engine.provider, engine.precision, engine.flow_steps) == ("tensorrt", "cuda:0", "fp32", STEPS)
    adapter = random_adapter(bundle.model_config, RANK, 0.5, 1)
    for loaded in (engine, onnx):
        loaded.load_slot(2, adapter)
    for count, clamped, slot in ((1, 0, 0), (1, 3, 2), (MOST, 0, 2), (3, 2, 0)):
        for found, expected in zip(ask(engine, count, clamped, slot), ask(onnx, count, clamped, slot), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert np.abs(ask(engine, slot=2)[0] - ask(engine)[0]).max() > 0.01


def test_more_samples_than_it_was_built_for_are_refused(gpu: Cuda, bundle: Bundle) -> None:
    engine = open_engine(bundle)
    with pytest.raises(
        EngineError, match=rf"samples are 1 to {MOST}; build .*--most-samples: flexor export .*--most-samples {MOST}"
    ):
        ask(engine, MOST + 1)
    ask(engine, MOST)


def test_calls_of_the_same_shapes_allocate_nothing(gpu: Cuda, bundle: Bundle) -> None:
    engine = open_engine(bundle)
    ask(engine, 2)
    ask(engine, 2)
    before = len(gpu.blocks)
    for seed in range(3):
        ask(engine, 2, seed=seed)
    assert len(gpu.blocks) == before


def test_a_prefix_outlives_later_calls(gpu: Cuda, bundle: Bundle) -> None:
    engine = open_engine(bundle)
    images = np.zeros((2, 3, 32, 32), np.float32)
    noise = np.ones((1, 10, 7), np.float32)
    prefix = engine.encode(images, np.arange(3, 9))
    first = engine.denoise(prefix, noise, None)[0]
    ask(engine, 4)
    np.testing.assert_array_equal(engine.denoise(prefix, noise, None)[0], first)


def test_kernels_compiled_at_one_start_are_there_at_the_next(gpu: Cuda, bundle: Bundle, bindings: Bindings) -> None:
    open_engine(bundle)
    assert sorted(file.name for file in (bundle.path / KERNELS).iterdir()) == ["expert.sm89.bin", "prefix.sm89.bin"]
    assert bindings.caches == []
    open_engine(Bundle.open(bundle.path))
    assert bindings.caches == [b"kernels", b"kernels"]


def test_kernels_that_cannot_be_kept_are_told_and_nothing_more(
    gpu: Cuda, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle.path / KERNELS).write_text("in the way")
    with caplog.at_level(logging.WARNING):
        ask(open_engine(bundle))
    assert "the next start compiles again" in caplog.text


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ("cpu", "engine tensorrt has no provider 'cpu'; expected cuda or cuda:N"),
        ("cuda:1", "cuda:1 was asked for, and this machine has 1"),
    ],
)
def test_a_provider_that_is_not_there_is_refused(gpu: Cuda, bundle: Bundle, provider: str, message: str) -> None:
    with pytest.raises(CudaError, match=message):
        open_engine(bundle, provider=provider)


def test_engines_of_another_gpu_or_version_are_refused_with_what_builds_them_again(
    gpu: Cuda, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_device, "runtime", Cuda("sm120"))
    again = r"flexor export micro-random --format tensorrt --precision fp32 --rank 4 .*--targets"
    with pytest.raises(EngineError, match=rf"built for sm86,sm89, and cuda:0 is sm120; build .*: {again} sm120"):
        open_engine(bundle)
    other = rehash(bundle.path, built_for={**BUILT_FOR, "version": "1.0.0"})
    with pytest.raises(EngineError, match=rf"tensorrt_rtx 1\.0\.0, and {VERSION} is .*=1\.0\.0, .*: {again} sm86,sm89"):
        open_engine(other)
    with pytest.raises(EngineError, match="does not tell the library, version, targets of its engines"):
        open_engine(rehash(bundle.path, built_for={}))


def test_without_the_library_it_is_named(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"tensorrt cannot be imported .*; pip install tensorrt$"):
        open_engine(rehash(bundle.path, built_for={**BUILT_FOR, "library": "tensorrt"}))
    with pytest.raises(EngineError, match="library 'other' is unknown"):
        open_engine(rehash(bundle.path, built_for={**BUILT_FOR, "library": "other"}))


def test_without_a_gpu_the_way_out_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.suppress(CudaError):
        count_devices()
        monkeypatch.setattr(cuda_device, "runtime", Cuda(count=0))  # there is one here
    with pytest.raises(CudaError, match=r"run on GPUs of sm86,sm89: .* no NVIDIA GPU.*--format onnx"):
        open_engine(bundle)


def test_up_to_the_gpu_it_needs_neither_torch_nor_an_exporter_nor_onnxruntime(bundle: Bundle) -> None:
    code = f"""
import sys
for name in ("torch", "onnx", "onnxscript", "onnxruntime"):
    sys.modules[name] = None
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError, open_engine
try:
    open_engine(Bundle.open({str(bundle.path)!r}))
except EngineError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "no NVIDIA GPU" in run.stdout or "cannot load" in run.stdout or "were built for" in run.stdout


def test_a_file_that_the_real_library_refuses_is_told_with_its_reason(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=rf"tensorrt_rtx {VERSION} cannot load .*prefix\.engine: \S.*: MAKE"):
        deserialize(TensorrtLibrary.load(RTX), bundle.path / "prefix.engine", "MAKE")


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_on_a_gpu_engines_compute_what_the_graphs_compute(source: Bundle, exported: Bundle, tmp_path: Path) -> None:
    wish = Wish("tensorrt", "fp32", RANK, STEPS, targets=(CURRENT,))
    if find_spec(FULL) is None and capability(0) not in TensorrtLibrary.load(RTX).targets:
        with pytest.raises(FlexorError, match=rf"does not build for {capability(0)}; .*pip install tensorrt"):
            export_graphs(source, tmp_path / "engines", wish)
        return
    engine, onnx = open_engine(export_graphs(source, tmp_path / "engines", wish).bundle), open_engine(exported)
    assert engine.provider == "cuda:0"
    adapter = random_adapter(source.model_config, RANK, 0.5, 1)
    for loaded in (engine, onnx):
        loaded.load_slot(2, adapter)
    for count, clamped, slot in ((1, 0, 0), (1, 3, 2), (MOST, 0, 2), (3, 2, 0)):
        for found, expected in zip(ask(engine, count, clamped, slot), ask(onnx, count, clamped, slot), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-3)
