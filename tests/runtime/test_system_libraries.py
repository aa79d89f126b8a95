"""System libraries: a missing one is told with the line to type, before anything is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flexor.runtime import system_libraries
from flexor.runtime.system_libraries import MissingSystemLibrary, missing_libraries, require_rendering

ROOT = Path(__file__).parents[2]


def test_a_missing_library_is_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(system_libraries, "LIBRARIES", {"libc.so.6": ("libc6",), "libnowhere.so.7": ("libnowhere7",)})
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(MissingSystemLibrary) as failure:
        require_rendering()
    assert "libnowhere.so.7" in str(failure.value)
    assert str(failure.value).endswith("type: sudo apt-get install -y libnowhere7")


def test_another_way_to_render_than_egl_needs_no_egl(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(system_libraries, "LIBRARIES", {"libnowhere.so.7": ("libnowhere7",)})
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert missing_libraries() == []


def test_the_check_runs_from_a_bare_checkout():
    run = subprocess.run(
        [sys.executable, "-S", "-m", "flexor.runtime.system_libraries"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
