"""The environment of a measurement is told without the libraries it tells about."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

import flexor
from flexor.runtime.environment import environment, package_version


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
