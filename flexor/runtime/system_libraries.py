"""The system libraries that rendering needs, which no Python package brings.

`python -m flexor.runtime.system_libraries` checks them with the standard library alone, before anything is installed:
the missing packages' names on standard output, the line to type on standard error, exit code 3.
"""

from __future__ import annotations

import ctypes
import os
import sys

from flexor.errors import FlexorError

LIBRARIES = {"libEGL.so.1": ("libegl1",), "libGL.so.1": ("libgl1", "libgl1-mesa-dri"), "libGLESv2.so.2": ("libgles2",)}
"""Debian and Ubuntu packages by the shared library that shows whether they are there."""


class MissingSystemLibrary(FlexorError):
    """A shared library that rendering needs cannot be loaded."""


def missing_libraries() -> list[str]:
    """Names of the LIBRARIES that the loader does not find; empty where MUJOCO_GL asks for another way than EGL."""
    if os.environ.get("MUJOCO_GL", "egl") != "egl":
        return []
    return [name for name in LIBRARIES if not _loads(name)]


def apt_packages(libraries: list[str]) -> list[str]:
    """The packages that bring `libraries`."""
    return [package for name in libraries for package in LIBRARIES[name]]


def apt_line(libraries: list[str]) -> str:
    """What to type to install `libraries` on Debian or Ubuntu."""
    return f"sudo apt-get install -y {' '.join(apt_packages(libraries))}"


def require_rendering() -> None:
    """Check before the first use of MuJoCo's renderer, whose own message names no package.

    Raises:
        MissingSystemLibrary: with the line to type.
    """
    missing = missing_libraries()
    if missing:
        raise MissingSystemLibrary(
            f"rendering needs {', '.join(missing)}, which this system does not have; type: {apt_line(missing)}"
        )


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _main() -> int:
    try:
        require_rendering()
    except MissingSystemLibrary as error:
        print(" ".join(apt_packages(missing_libraries())))
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(_main())
