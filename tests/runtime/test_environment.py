"""The environment of a measurement is told without the libraries it tells about."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import flexor
from flexor.runtime.environment import environment, package_version

GIT = ["git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]


def test_it_names_versions_processor_and_cores():
    told = environment()
    assert told["flexor"] == flexor.__version__
    assert told["packages"]["numpy"] == np.__version__
    assert told["cores"] == len(os.sched_getaffinity(0))
    assert told["cpu"]
    assert json.loads(json.dumps(told)) == told


def test_a_package_that_is_not_installed_has_no_version():
    assert package_version("no-such-distribution") is None


def test_telling_imports_neither_torch_nor_mujoco():
    program = (
        "import sys\nfrom flexor.runtime.environment import environment\nenvironment()\n"
        "print(sorted({'torch', 'mujoco', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_commit_is_that_of_the_code_and_a_plus_says_that_the_code_has_changed_since(tmp_path: Path):
    def git(*arguments: str) -> str:
        return subprocess.run(
            [*GIT, "-C", str(tmp_path), *arguments], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    def told() -> str:
        program = "from flexor.runtime.environment import source_commit\nprint(source_commit())"
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        return run.stdout.strip()

    package = Path(flexor.__file__).parent
    for name in ("__init__.py", "runtime/__init__.py", "runtime/environment.py"):
        (tmp_path / "flexor" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / name, tmp_path / "flexor" / name)
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    assert told() == "None"  # no checkout
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD")[:12]
    assert told() == commit
    (tmp_path / "results.jsonl").write_text("{}\n")
    assert told() == commit
    (tmp_path / "flexor" / "more.py").write_text("MORE = 1\n")
    assert told() == f"{commit}+"
