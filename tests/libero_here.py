"""Whether LIBERO can be tested here: its packages (make libero), its assets, and a way to render."""

from __future__ import annotations

import pytest

from flexor.runtime.system_libraries import missing_libraries
from flexor.sim.libero.assets import missing_here

WHY_NOT = missing_here() or (f"no {', '.join(missing_libraries())}" if missing_libraries() else None)

needs_libero = pytest.mark.skipif(WHY_NOT is not None, reason=f"LIBERO cannot run here: {WHY_NOT}")
"""For tests, or a whole file as its `pytestmark`: skips with the exact reason."""
