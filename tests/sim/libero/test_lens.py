"""Lens: what a shift puts between a LIBERO camera and its frames."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import pytest
from libero_here import needs_libero

from flexor.sim.libero.shift.draw import LiberoDraw
from flexor.sim.libero.shift.lens import Lens
from flexor.sim.libero.shift.table import BLURS
from flexor.sim.scenes import CAMERAS

pytestmark = [needs_libero, pytest.mark.timeout(600)]


@pytest.mark.parametrize("blur", BLURS)
def test_a_blur_changes_the_agent_camera_alone_and_more_with_severity(blur: str) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    changes = []
    for severity in (0.5, 2.0, 6.0):
        lens = Lens(LiberoDraw(blur=blur, severity=severity, blur_seed=4))
        seen = lens.look(frame, CAMERAS[0], 3)
        assert seen.dtype == np.uint8 and seen.shape == frame.shape
        changes.append(float(np.abs(seen.astype(float) - frame).mean()))
        assert np.array_equal(lens.look(frame, CAMERAS[1], 3), frame)
    assert changes == sorted(changes) and changes[-1] > 2.0


def test_grain_is_of_its_strength_and_follows_from_seed_step_and_camera() -> None:
    frame = np.full((96, 96, 3), 120, np.uint8)
    lens = Lens(LiberoDraw(blur="gaussian", severity=0.0, grain=6.0, blur_seed=4))
    seen = lens.look(frame, CAMERAS[1], 3)
    assert float(seen.std()) == pytest.approx(6.0, rel=0.03)
    assert np.array_equal(seen, lens.look(frame, CAMERAS[1], 3))
    assert not np.array_equal(seen, lens.look(frame, CAMERAS[1], 4))
    assert not np.array_equal(seen, lens.look(frame, CAMERAS[0], 3))
    assert Lens(LiberoDraw()).look(frame, CAMERAS[0], 0) is frame
