"""The environment of a measurement: versions, processor, GPU, threads. Imports neither torch nor mujoco."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from flexor import __version__

PACKAGES = ("numpy", "pyzmq", "msgpack", "mcap", "tokenizers", "safetensors", "torch", "mujoco", "gymnasium")
"""Packages whose version can change a result."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment() -> dict[str, Any]:
    """What to write beside a measurement, ready for JSON.

    Keys: flexor, python, platform, packages (version by name, null when absent), cpu, cores (those this process may
    use), gpu (name, or null), threads (the OpenMP and BLAS variables that are set).
    """
    return {
        "flexor": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": gpu_name(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


def peak_memory_mb() -> float:
    """Most memory that this process has had resident, with its mapped files, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None when it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def cpu_model() -> str:
    """The processor's own name, or its architecture where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


@functools.cache
def gpu_name() -> str | None:
    """The first NVIDIA GPU's name as the driver gives it, None without a working driver."""
    query = shutil.which("nvidia-smi")
    if query is None:
        return None
    try:
        answer = subprocess.run(
            [query, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except subprocess.TimeoutExpired:
        return None
    names = answer.stdout.strip().splitlines()
    return names[0].strip() if answer.returncode == 0 and names else None


def source_commit() -> str | None:
    """The commit of the checkout that flexor runs from, with a "+" when its code has changed since; None without one.

    Not cached: somebody may commit while a long measurement goes on.
    """
    package = Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    if git is None or not (package.parent / ".git").exists():
        return None
    answers = []
    for arguments in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", package.name]):
        command = [git, "-C", str(package.parent), *arguments]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except subprocess.TimeoutExpired:
            return None
        if answer.returncode != 0:  # no commit yet, or a checkout of somebody else
            return None
        answers.append(answer.stdout.strip())
    commit, changes = answers
    return f"{commit}+" if changes else commit
