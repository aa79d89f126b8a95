"""A dressed model: colours that their words still name, bodies that weigh what their size says, no trace."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from flexor.sim.scenes import SCENES
from flexor.sim.shift import Shift
from flexor.sim.shift_table import LEVELS
from flexor.sim.world import World

SHIFTED = LEVELS[1:]
ARRAYS = (
    "geom_rgba", "light_diffuse", "light_dir", "cam_pos", "cam_quat", "geom_size", "geom_friction", "body_mass",
    "body_pos", "body_inertia", "body_invweight0", "geom_rbound",
)  # fmt: skip


@pytest.mark.parametrize("level", SHIFTED)
def test_the_same_seed_gives_the_same_bits_and_what_came_before_leaves_no_trace(level: str) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (25, 7))
    ends = []
    for before in ((), (3, 4)):
        world = World(SCENES["towers"], Shift(level))
        for seed in before:
            world.reset(seed)
            world.act(actions[0])
        world.reset(7)
        for action in actions:
            world.act(action)
        model = world.model
        looks = [getattr(model, array).ravel() for array in ARRAYS]
        ends.append(np.concatenate([world.data.qpos, world.data.qvel, *looks]))
    assert np.array_equal(ends[0], ends[1])


@pytest.mark.parametrize("level", SHIFTED)
@pytest.mark.parametrize("name", SCENES)
def test_the_word_for_a_colour_still_names_its_item(name: str, level: str) -> None:
    """In hue every item is nearest to what it was, by far; white stays pale and bright, black stays dark."""
    scene = SCENES[name]
    world = World(scene, Shift(level, ("object_colour",)))
    hues = {item.name: colorsys.rgb_to_hsv(*item.rgb)[0] for item in scene.items}
    for seed in range(15):
        world.reset(seed)
        for item in scene.items:
            hue, strong, bright = colorsys.rgb_to_hsv(*map(float, world.model.geom(item.name).rgba[:3]))
            _, was_strong, was_bright = colorsys.rgb_to_hsv(*item.rgb)
            if was_strong > 0.25:
                gaps = {other: abs((hue - h + 0.5) % 1.0 - 0.5) for other, h in hues.items()}
                rivals = [o.name for o in scene.items if o != item and colorsys.rgb_to_hsv(*o.rgb)[1] > 0.25]
                assert gaps[item.name] < 0.07
                assert all(gaps[item.name] < gaps[rival] - 0.05 for rival in rivals)
                assert strong > 0.4
            elif was_bright > 0.5:
                assert strong < 0.2 and bright > 0.65
            else:
                assert bright < 0.2


def test_larger_items_are_heavier_by_the_cube_and_rest_on_the_table() -> None:
    world = World(SCENES["towers"], Shift("high", ("object_size",)))
    world.reset(2)
    gain = 1.0 + world.drawn.size
    half = 0.024 * gain
    np.testing.assert_allclose(world.size("green_block"), np.full(3, half))
    np.testing.assert_allclose(world.model.body("green_block").mass, 940.0 * (2 * half) ** 3)
    # a cube's inertia is m a^2 / 6
    np.testing.assert_allclose(
        world.model.body("green_block").inertia, 940.0 * (2 * half) ** 3 * (2 * half) ** 2 / 6, rtol=1e-6
    )
    assert abs(world.position("green_block")[2] - half) < 1e-3
