"""The Python packages that LIBERO needs, without importing any of them."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

from flexor.errors import FlexorError

PACKAGES = {
    "libero": "hf-libero",
    "robosuite": "robosuite",
    "bddl": "bddl",
    "mujoco": "mujoco",
    "torch": "torch",
    "numba": "numba",
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "easydict": "easydict",
    "future": "future",
    "cloudpickle": "cloudpickle",
    "matplotlib": "matplotlib",
}
"""The name that pip knows, by the module that shows whether it is there."""


class MissingPackages(FlexorError):
    """What LIBERO needs is not installed."""


def missing_packages() -> list[str]:
    """What pip would have to install."""
    return [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]


def require_packages() -> None:
    """
    Raises:
        MissingPackages: with what to type.
    """
    missing = missing_packages()
    if missing:
        raise MissingPackages(f"LIBERO needs {', '.join(missing)}, not installed here; type: make libero")


def benchmark_folder() -> Path | None:
    """The folder of hf-libero that holds its task files; None when it is not installed. LIBERO is not imported."""
    spec = importlib.util.find_spec("libero")
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place, "libero")
        if (folder / "bddl_files").is_dir():
            return folder
    return None


def silence_robosuite() -> None:
    """Before robosuite is imported: without a macro file it gives advice, and logs to a file in /tmp that may be
    another user's."""
    sys.modules.setdefault("robosuite.macros_private", types.ModuleType("robosuite.macros_private"))
