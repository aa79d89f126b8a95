"""What cameras see, by rays: against MuJoCo's own rendering."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator

import mishaps
import mujoco
import numpy as np
import pytest

from flexor.sim.failure.sight import OUT_OF_VIEW, Sight
from flexor.sim.failure.tabletop import TabletopScene
from flexor.sim.scenes import AGENT_CAMERA, SCENES
from flexor.sim.tasks import TASKS
from flexor.sim.world import World

RED_ON_PLATE = "red_block_on_plate"


@pytest.fixture(scope="module")
def world() -> World:
    return World(SCENES["blocks"])


@pytest.fixture(scope="module")
def renderer(world: World) -> Iterator[mujoco.Renderer]:
    made = mujoco.Renderer(world.model, 480, 480)
    made.enable_segmentation_rendering()
    yield made
    made.close()


def test_rays_see_the_share_of_an_item_that_a_picture_shows(world: World, renderer: mujoco.Renderer) -> None:
    """Against MuJoCo's own rendering: visible pixels over those that are left when nothing else is drawn."""
    model, data = world.model, world.data
    sight = Sight(TabletopScene(world, TASKS[RED_ON_PLATE]).anatomy, (AGENT_CAMERA,))
    geom = model.geom("red_block").id

    def pixels() -> int:
        renderer.update_scene(data, AGENT_CAMERA)
        ids, kinds = np.moveaxis(renderer.render(), -1, 0)
        return int(np.sum((ids == geom) & (kinds == mujoco.mjtObj.mjOBJ_GEOM)))

    shares = []
    for seed in (302, 303, 304):
        world.reset(seed)
        for step in range(30):
            world.act(mishaps.park_in_view(world, TASKS[RED_ON_PLATE], step))
            if step % 5 != 4:
                continue
            visible, rgba = pixels(), model.geom_rgba.copy()
            model.geom_rgba[np.arange(model.ngeom) != geom, 3] = 0.0
            alone = pixels()
            model.geom_rgba[:] = rgba
            shares.append((sight.view("red_block", 1.0).share, visible / alone))
    rays, picture = np.array(shares).T
    assert np.any(picture == 0.0)
    assert np.any(picture > 0.95)
    assert np.max(np.abs(rays - picture)) < 0.35
    assert np.all(rays[picture < 0.02] < 0.2)
    assert np.all(rays[picture > 0.6] >= 0.2)


def test_what_is_outside_the_picture_is_not_seen(world: World) -> None:
    world.reset(1)
    sight = Sight(TabletopScene(world, TASKS[RED_ON_PLATE]).anatomy, (AGENT_CAMERA,))
    assert sight.view("red_block", 1.0).share > 0.7
    world.data.joint("red_block_joint").qpos[:3] = (-1.0, 2.0, 0.3)
    mujoco.mj_forward(world.model, world.data)
    view = sight.view("red_block", 1.0)
    assert (view.share, view.hidden_by) == (0.0, OUT_OF_VIEW)
