"""The physics: control, grasping by friction, and reproducibility."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.sim.controller import rotation_matrix, rotation_vector
from flexor.sim.layout import REGION, draw_layout
from flexor.sim.scenes import SCENES, Scene
from flexor.sim.tasks import TASKS, is_done
from flexor.sim.world import World

STAY = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)


@pytest.fixture(scope="module")
def world() -> World:
    return World(SCENES["blocks"])


@pytest.mark.parametrize("axis", range(3))
def test_a_delta_moves_the_gripper_along_its_axis_and_little_else(world: World, axis: int) -> None:
    world.reset(1)
    for _ in range(10):
        world.act(STAY)
    before, turned = world.grip_position(), world.grip_rotation()
    action = STAY.copy()
    action[axis] = 0.4
    for _ in range(8):
        world.act(action)
    moved = world.grip_position() - before
    assert moved[axis] > 0.02
    assert np.abs(np.delete(moved, axis)).max() < 0.15 * moved[axis]
    assert np.linalg.norm(rotation_vector(world.grip_rotation() @ turned.T)) < 0.05


@pytest.mark.parametrize("axis", range(3))
def test_a_rotation_delta_turns_about_its_base_axis_and_keeps_the_place(world: World, axis: int) -> None:
    world.reset(1)
    for _ in range(10):
        world.act(STAY)
    before, turned = world.grip_position(), world.grip_rotation()
    action = STAY.copy()
    action[3 + axis] = 0.2
    for _ in range(8):
        world.act(action)
    turn = rotation_vector(world.grip_rotation() @ turned.T)
    assert turn[axis] > 0.1
    assert np.abs(np.delete(turn, axis)).max() < 0.15 * turn[axis]
    assert np.linalg.norm(world.grip_position() - before) < 0.01


def test_rotation_vector_and_matrix_are_inverse() -> None:
    vector = np.array([0.3, -0.2, 0.5])
    np.testing.assert_allclose(rotation_vector(rotation_matrix(vector)), vector, atol=1e-9)
    quarter = rotation_matrix(np.array([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-9)


def test_hold_keeps_the_arm_where_it_is(world: World) -> None:
    world.reset(2)
    for _ in range(6):
        world.act(np.array([0.8, 0, 0, 0, 0, 0, -1], dtype=np.float32))
    before = world.grip_position()
    for _ in range(40):
        world.hold()
    assert np.linalg.norm(world.grip_position() - before) < 0.02


@pytest.mark.parametrize("name", SCENES)
def test_everything_rests_on_the_table_after_a_reset_and_nothing_is_done(name: str) -> None:
    world = World(SCENES[name])
    tasks = [task for task in TASKS.values() if task.scene == name]
    for seed in range(10):
        world.reset(seed)
        for item in world.scene.items:
            assert abs(world.position(item.name)[2] - item.foot) < 1e-3
        assert not any(is_done(task, world) for task in tasks)


@pytest.mark.parametrize("scene", SCENES.values(), ids=lambda scene: scene.name)
def test_layouts_keep_items_apart_and_inside_the_region(scene: Scene) -> None:
    radii = np.array([item.footprint for item in scene.items])
    pairs = np.triu_indices(len(radii), 1)
    for seed in range(200):
        spots = np.array([pose[:2] for pose in draw_layout(scene, seed).poses.values()])
        assert np.all((spots >= REGION[:, 0]) & (spots <= REGION[:, 1]))
        distances = np.linalg.norm(spots[:, None] - spots[None], axis=-1)[pairs]
        assert np.all(distances - (radii[:, None] + radii)[pairs] > 0.03)


def test_no_block_stands_between_a_puck_and_its_goals_nor_where_the_hand_goes_down_behind_it() -> None:
    scene = SCENES["mats"]
    for seed in range(200):
        poses = draw_layout(scene, seed).poses
        block, puck = np.array(poses["orange_block"][:2]), np.array(poses["teal_puck"][:2])
        for goal in ("white_mat", "black_mat"):
            end = np.array(poses[goal][:2])
            start = puck - 0.1 * (end - puck) / np.linalg.norm(end - puck)
            line = start + np.linspace(0, 1, 200)[:, None] * (end - start)
            assert np.linalg.norm(line - block, axis=1).min() > 0.08


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        draw_layout(SCENES["blocks"], -1)


def test_the_gripper_axis_angle_is_continuous_around_looking_down(world: World) -> None:
    world.reset(3)
    last = world.grip_axis_angle()
    for step in range(60):
        tilt = 0.5 * np.sin(step / 6)
        world.act(np.array([0, 0, 0, tilt, 0.3 * tilt, 0, -1], dtype=np.float32))
        now = world.grip_axis_angle()
        assert np.linalg.norm(now - last) < 0.3
        np.testing.assert_allclose(rotation_matrix(now), world.grip_rotation(), atol=1e-6)
        last = now


def test_the_same_seed_and_actions_give_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (30, 7))
    ends = []
    for world in (World(SCENES["blocks"]), World(SCENES["blocks"])):
        world.reset(9)
        world.act(actions[0])
        world.reset(7)  # whatever happened before a reset leaves no trace
        for action in actions:
            world.act(action)
        ends.append(np.concatenate([world.data.qpos, world.data.qvel]))
    assert np.array_equal(ends[0], ends[1])
