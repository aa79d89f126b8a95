"""A simulated Franka behind the same door as a real one: tabletop, its tasks, and a scripted oracle."""

import os
import sys

if __name__ != "flexor.sim":
    raise ImportError(f"import flexor.sim, not {__name__}")

from flexor.runtime.system_libraries import missing_libraries

# mujoco reads it when it is imported, and cannot be imported with "egl" where there is no EGL.
if sys.platform == "linux" and not os.environ.get("DISPLAY") and not missing_libraries():
    os.environ.setdefault("MUJOCO_GL", "egl")
