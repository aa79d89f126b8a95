"""TorchScript files and PT2 packages by themselves: they load without flexor, tell what they are and where they run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_bundles import RANK, STEPS, TOKENS, question, rehash
from torch import nn
from torch._C._aoti import AOTIModelPackageLoader  # pyright: ignore[reportMissingImports]

from flexor.errors import FlexorError
from flexor.export.exporter import Wish, export_graphs
from flexor.pi05.lora import random_adapter, tensor_names
from flexor.pi05.lora_targets import EXPERT_PAIRS, PREFIX_PAIRS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError, open_engine
from flexor.runtime.inference.torch_pt2_engine import MOST_SAMPLES, built_for
from flexor.runtime.inference.torch_script_engine import FACTS

COMPILED = pytest.param("pt2", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])
PAGE = Path(__file__).parents[2] / "docs" / "export.md"
BUILD_TIMEOUT_S = 1500.0

WITHOUT_FLEXOR = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'flexor':
            raise ImportError(f"{name} is blocked in this test")

sys.meta_path.insert(0, Blocked())
import torch

torch.set_num_threads(1)
load = torch.jit.load if sys.argv[1].endswith(".ts") else torch._inductor.aoti_load_package
prefix, expert = load(sys.argv[1]), load(sys.argv[2])
given = list(torch.jit.load(sys.argv[3]).buffers())
with torch.no_grad():
    actions, velocities = expert(*prefix(*given[:5]), *given[5:])
print(json.dumps(actions.flatten().tolist()))
"""


class Question(nn.Module):
    """Inputs of both graphs in their order, cache and length aside, as buffers: a file that libtorch reads."""

    def __init__(self, inputs: dict[str, np.ndarray]) -> None:
        super().__init__()
        for name, array in inputs.items():
            self.register_buffer(name, torch.from_numpy(array))


def write_question(path: Path, source: Bundle) -> None:
    """Two samples that continue three actions, with an adapter of every projection."""
    images, tokens, noise = question(9, 2)
    padded = np.zeros(TOKENS, np.int64)
    padded[:9] = tokens
    clamp = np.zeros((10, 7), np.float32)
    clamp[:3] = 0.5
    adapter = random_adapter(source.model_config, RANK, 0.5, 1)
    inputs = {
        "images": images,
        "tokens": padded,
        "token_count": np.array([9]),
        **{name: adapter[name] for name in tensor_names(PREFIX_PAIRS)},
        "noise": noise,
        "action_prefix": clamp,
        "action_prefix_length": np.array([3]),
        "condition": np.zeros((2, 1, source.model_config.expert.width), np.float32),
        "condition_mask": np.zeros(2, bool),
        **{name: adapter[name] for name in tensor_names(EXPERT_PAIRS)},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(Question(inputs)), path)


def expected(made: Bundle) -> np.ndarray:
    engine = open_engine(made)
    engine.load_slot(1, random_adapter(made.model_config, RANK, 0.5, 1))
    images, tokens, noise = question(9, 2)
    return engine.denoise(engine.encode(images, tokens, 1), noise, np.full((3, 7), 0.5, np.float32), 1)[0].ravel()


def files(made: Bundle) -> list[Path]:
    graphs = made.config.graphs
    assert graphs is not None
    return [made.path / name for name in graphs.files]


@pytest.fixture
def copied(exported_as: Callable[[str], Bundle], tmp_path: Path) -> Path:
    shutil.copytree(exported_as("torchscript").path, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("format_", ["torchscript", COMPILED])
def test_a_process_without_flexor_computes_the_same(
    exported_as: Callable[[str], Bundle], source: Bundle, tmp_path: Path, format_: str
) -> None:
    made = exported_as(format_)
    write_question(tmp_path / "question.ts", source)
    arguments = [str(file) for file in (*files(made), tmp_path / "question.ts")]
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_FLEXOR, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(json.loads(run.stdout), expected(made), atol=1e-6)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of docs/export.md, compiled as that page says."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler: apt-get install g++")
    folder, page = tmp_path_factory.mktemp("host"), PAGE.read_text()
    (code,) = re.findall(r"```cpp\n(.*?)```", page, re.DOTALL)
    (build,) = re.findall(r"```\n(TORCH=.*?g\+\+ .*?)```", page, re.DOTALL)
    (folder / "host.cpp").write_text(code)
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    run = subprocess.run(
        ["bash", "-ec", build], capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, cwd=folder, env={"PATH": path}
    )
    assert run.returncode == 0, run.stderr
    return folder / "host"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("format_", ["torchscript", "pt2"])
def test_the_cpp_example_computes_the_same(
    host: Path, exported_as: Callable[[str], Bundle], source: Bundle, tmp_path: Path, format_: str
) -> None:
    made = exported_as(format_)
    write_question(tmp_path / "question.ts", source)
    arguments = [str(file) for file in (host, *files(made), tmp_path / "question.ts")]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose([float(line) for line in run.stdout.split()], expected(made), atol=1e-5)


@pytest.mark.parametrize("format_", ["torchscript", COMPILED])
def test_each_file_tells_what_it_is(exported_as: Callable[[str], Bundle], source: Bundle, format_: str) -> None:
    for role, file in zip(("prefix", "expert"), files(exported_as(format_)), strict=True):
        if format_ == "pt2":
            told = AOTIModelPackageLoader.load_metadata_from_package(str(file), "model")["flexor"]  # pyright: ignore[reportAttributeAccessIssue]
        else:
            extra = {FACTS: ""}
            torch.jit.load(file, _extra_files=extra)
            told = extra[FACTS]
        facts = json.loads(told)
        assert (facts["graph"], facts["source"], facts["precision"]) == (role, source.hash, "fp32")
        assert (facts["flow_steps"], facts["rank"], facts["actions"]["units"][0]) == (STEPS, RANK, "0.05 m")
        inputs = {port["name"]: port["shape"] for port in facts["inputs"]}
        assert inputs["images" if role == "prefix" else "noise"] == (
            [2, 3, 32, 32] if role == "prefix" else ["N", 10, 7]
        )


def as_pt2(folder: Path, **tied: str) -> Bundle:
    """A bundle that says its files were compiled; they are TorchScript still."""
    told = json.loads((folder / "bundle.json").read_text())
    for role in ("prefix", "expert"):
        (folder / f"{role}.ts").rename(folder / f"{role}.pt2")
        told["files"][f"{role}.pt2"] = told["files"].pop(f"{role}.ts")
    (folder / "bundle.json").write_text(json.dumps(told))
    return rehash(folder, format="pt2", built_for=tied)


@pytest.mark.parametrize(
    ("other", "there"),
    [({"torch": "2.9.1"}, "torch 2.9.1, cpu "), ({"cpu": "aarch64 DEFAULT"}, r"torch [\d.]+, cpu aarch64 DEFAULT")],
)
def test_packages_of_another_torch_or_processor_are_refused_before_they_are_loaded(
    copied: Path, other: dict[str, str], there: str
) -> None:
    opened = as_pt2(copied, **{**built_for(), **other})
    again = rf"flexor export micro-random --format pt2 .*--rank {RANK} --flow-steps {STEPS} --prompt-tokens {TOKENS}"
    for force in (False, True):
        with pytest.raises(EngineError, match=rf"was built for {there}.*, and this is .*again here: {again}"):
            open_engine(opened, force=force)


def test_a_file_that_is_no_package_is_refused(copied: Path) -> None:
    with pytest.raises(EngineError, match=r"torch .* cannot load .*prefix\.pt2: .*flexor export --format pt2"):
        open_engine(as_pt2(copied, **built_for()))


def test_a_torn_torchscript_file_is_refused(copied: Path) -> None:
    data = (copied / "prefix.ts").read_bytes()
    (copied / "prefix.ts").write_bytes(data[: len(data) // 2])
    with pytest.raises(EngineError, match=r"torch .* cannot load .*prefix\.ts: .*flexor export --format torchscript"):
        open_engine(rehash(copied))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_samples_than_a_package_takes_are_refused(exported_as: Callable[[str], Bundle]) -> None:
    engine = open_engine(exported_as("pt2"))
    images, tokens, _ = question(9)
    prefix = engine.encode(images, tokens)
    assert np.isfinite(engine.denoise(prefix, question(9, MOST_SAMPLES)[2], None)[0]).all()
    with pytest.raises(EngineError, match=f"noise has {MOST_SAMPLES + 1} samples; graphs for pt2 take at most"):
        engine.denoise(prefix, question(9, MOST_SAMPLES + 1)[2], None)


def test_without_a_compiler_nothing_is_traced(source: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    told: list[str] = []
    with pytest.raises(FlexorError, match=r"format 'pt2' needs a C\+\+ compiler, and there is none; apt-get"):
        export_graphs(source, tmp_path / "out", Wish("pt2", rank=RANK), told=told.append)
    assert not told and not list(tmp_path.iterdir())
