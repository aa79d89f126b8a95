"""The package as a whole: root links, importability, what needs no heavy library, what is pinned."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import flexor

ROOT = Path(__file__).parents[1]
LINKS = ("runtime", "export", "learner", "sim")
MODULES = sorted(module.name for module in pkgutil.walk_packages(flexor.__path__, "flexor."))

BLOCK = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in BLOCKED:
            raise ImportError(f"{name} is blocked in this test")

sys.meta_path.insert(0, Blocked())
for module in MODULES:
    importlib.import_module(module)
print("imported", len(MODULES))
"""


def run_python(program: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=cwd, timeout=100)


def import_without(blocked: list[str], modules: list[str]) -> None:
    """Import `modules` in a fresh process in which every import of `blocked` fails."""
    run = run_python(f"BLOCKED = {blocked!r}\nMODULES = {modules!r}\n{BLOCK}")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"imported {len(modules)}"


def test_the_modules_were_found():
    assert {"flexor.runtime.robot", "flexor.cli.main", "flexor.pi05.config", "flexor.sim"} <= set(MODULES)


@pytest.mark.parametrize("name", LINKS)
def test_a_root_link_leads_into_the_package(name: str):
    link = ROOT / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / "flexor" / name


@pytest.mark.parametrize("name", LINKS)
def test_a_root_link_refuses_to_be_imported(name: str):
    run = run_python(f"import {name}")
    assert run.returncode == 1
    assert f"import flexor.{name}, not {name}" in run.stderr


def test_every_module_can_be_imported():
    for name in MODULES:
        importlib.import_module(name)


def test_runtime_and_command_line_need_neither_torch_nor_mujoco_to_be_imported():
    light = [
        name
        for name in MODULES
        if name.startswith(("flexor.runtime", "flexor.cli", "flexor.errors", "flexor.settings"))
        and not name.startswith(("flexor.runtime.inference.torch_", "flexor.runtime.timing.torch_"))
    ]
    for name in ("serving.client", "serving.server", "driving.daemon", "episodes.recorder", "inference.policy"):
        assert f"flexor.runtime.{name}" in light
    import_without(["torch", "mujoco", "gymnasium", "matplotlib", "transformers", "tensorboard"], light)


def test_prompt_images_and_normalisation_need_no_torch():
    import_without(["torch"], [f"flexor.pi05.{name}" for name in ("prompt", "images", "normalize", "config")])


def test_simulation_needs_no_torch():
    import_without(["torch"], [name for name in MODULES if name.startswith("flexor.sim")])


def test_the_client_needs_only_numpy_pyzmq_and_msgpack():
    allowed = {"numpy", "pyzmq", "msgpack", "flexor"}
    imported_as = importlib.metadata.packages_distributions()
    others = [name for name, owners in imported_as.items() if not allowed & {owner.lower() for owner in owners}]
    assert "pydantic" in others
    import_without(others, ["flexor.runtime.serving.client"])


def test_the_installed_version_is_the_one_in_the_source():
    assert importlib.metadata.version("flexor") == flexor.__version__


def test_constraints_pin_versions_and_name_no_place():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_everything_that_flexor_asks_for_is_pinned():
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").open()}
    for requirement in importlib.metadata.requires("flexor") or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        assert name.lower().replace("_", "-") in pinned, requirement


def test_no_torch_without_muon_is_asked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    torch = next(line for line in project["optional-dependencies"]["torch"] if line.startswith("torch"))
    allowed = Requirement(torch).specifier
    assert "2.8.0" not in allowed  # torch.optim.Muon, which pretraining uses, came with 2.9
    assert "2.13.0" in allowed


def test_no_file_is_longer_than_three_hundred_lines():
    for folder in ("flexor", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 300, path


def test_the_architecture_page_has_a_line_for_every_file_and_for_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^### `(flexor/[\w/]+/)`|^- `(\w+\.py)`: ", page, re.MULTILINE)
    folder, found = "", set()
    for heading, name in listed:
        folder = heading or folder
        if name:
            found.add(folder + name)
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "flexor").glob("*/**/*.py") if path.name != "__init__.py"}
    assert found == files
