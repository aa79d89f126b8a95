"""What lies outside a camera's view is left out, and no pixel changes."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import pytest
from libero_here import needs_libero

from flexor.sim.libero import view as view_module
from flexor.sim.libero.frustum import Unseen, outside
from flexor.sim.libero.retina import Retina
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.suites import find_suite, official_starts
from flexor.sim.libero.view import View, find_render
from flexor.sim.scenes import CAMERAS

pytestmark = [needs_libero, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("suite", "task"), [("libero_spatial", 0), ("libero_object", 3), ("libero_10", 8)])
def test_frames_are_equal_in_every_pixel_with_fewer_geoms(
    suite: str, task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(find_suite(suite).tasks[task])
    retina, view = Retina(stage), View(stage.model, find_render("fast"), "pillow")
    stage.reset(official_starts(stage.task)[0])
    retina.reset()
    hidden = []
    for action in np.random.default_rng(task).uniform(-1.0, 1.0, (3, 7)):
        for _ in range(8):
            stage.act(action)
        for camera in CAMERAS:
            hidden.append(int(outside(stage.model, retina.seen, stage.model.camera(camera).id).sum()))
            groups = np.array(stage.model.geom_group)
            culled = view.draw(retina, camera)
            np.testing.assert_array_equal(stage.model.geom_group, groups)
            with monkeypatch.context() as whole:
                whole.setattr(view_module, "Unseen", lambda *args: view_module.contextlib.nullcontext())
                np.testing.assert_array_equal(culled, view.draw(retina, camera))
    assert max(hidden) > 20
    view.close()
    stage.env.close()


def test_what_is_in_front_of_the_camera_is_not_outside_and_what_is_behind_is() -> None:
    import mujoco

    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody>
        <camera name="eye" pos="0 0 1" fovy="60"/>
        <geom name="floor" type="plane" size="1 1 0.1"/>
        <geom name="below" type="sphere" size="0.1"/>
        <geom name="above" type="sphere" size="0.1" pos="0 0 1.5"/>
        <geom name="half in" type="sphere" size="0.1" pos="0.62 0 0"/>
        <geom name="beside" type="sphere" size="0.1" pos="0.8 0 0"/>
        </worldbody></mujoco>"""
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    told = {model.geom(i).name: bool(out) for i, out in enumerate(outside(model, data, 0))}
    assert told == {"floor": False, "below": False, "above": True, "half in": False, "beside": True}
    with Unseen(model, data, 0):
        assert model.geom("above").group[0] == 5
    assert model.geom("above").group[0] == 0
