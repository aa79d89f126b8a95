"""LIBERO's scenes in a shift: each axis changes what it says, and no episode leaves a trace in the next."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np
import pytest
from libero_here import needs_libero
from libero_shifts import libero, open_robot

from flexor.sim.actuation import Actuation
from flexor.sim.distractors import PREFIX
from flexor.sim.libero.shift.arrangement import CLEARANCE, ON_FIXTURE, ground_height
from flexor.sim.libero.shift.draw import LiberoDraw, draw_libero_shift, object_names, wordings
from flexor.sim.libero.shift.lens import Lens
from flexor.sim.libero.shift.table import LIBERO_AXES
from flexor.sim.scenes import CAMERAS
from flexor.sim.shift import NONE, Shift

pytestmark = [needs_libero, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stage() -> Any:
    robot = open_robot(NONE)
    robot.reset(0, "0")
    yield robot.stage
    robot.close()


def aspects(shift: Shift, seed: int) -> dict[str, Any]:
    """Everything that an axis may change, by the name of what it is, at the beginning of an episode."""
    robot = open_robot(shift)
    begun = robot.reset(seed, "0")
    stage, place = robot.stage, robot._place()
    model, drawn = stage.model, place.workplace.drawn
    own = [geom for geom in range(model.ngeom) if not model.geom(geom).name.startswith(PREFIX)]
    things = [body for body in range(model.nbody) if not model.body(body).name.startswith(PREFIX)]
    actuation, sent = Actuation(drawn, seed), [np.full(7, 0.1 * step) for step in range(6)]
    arrived = [actuation.send(command) for command in sent]
    cameras = [model.camera(name) for name in CAMERAS]
    blank = np.full((64, 64, 3), 90, np.uint8)
    blank[:32] = 200
    lens = Lens(drawn)
    result = {
        "cameras": [(camera.pos.tolist(), camera.quat.tolist()) for camera in cameras],
        "lamps": [model.light_diffuse.tolist(), model.light_dir.tolist(), model.vis.headlight.ambient.tolist()],
        "textures": hashlib.sha256(model.tex_data).hexdigest(),
        "colours": model.geom_rgba[own].tolist(),
        "places": np.array([stage.position(name)[:2] for name in stage.things]),
        "fixtures": {name: stage.position(name).tolist() for name in stage.fixtures},
        "others": drawn.distractors,
        "arm": stage.joint_positions(),
        "lens": lens.look(blank, CAMERAS[0], 0).tobytes() + lens.look(blank, CAMERAS[1], 0).tobytes(),
        "sentence": begun.prompt,
        "friction": model.geom_friction[own].tolist(),
        "masses": model.body_mass[things].tolist(),
        "late": [command is None for command in arrived].count(True),
        "bent": arrived[-1] is None or not any(np.array_equal(arrived[-1], command) for command in sent),
        "extent": [model.stat.extent, model.stat.center.tolist(), model.nq, model.nv],
    }
    robot.close()
    return result


CHANGES = {
    "camera_pose": {"cameras"},
    "light": {"lamps"},
    "texture": {"textures"},
    "object_layout": {"places"},
    "distractors": {"others"},
    "start_pose": {"arm"},
    "sensor_noise": {"lens"},
    "paraphrase": {"sentence"},
    "friction": {"friction"},
    "mass": {"masses"},
    "action_delay": {"late"},
    "action_noise": {"bent"},
}


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return aspects(NONE, 5)


@pytest.mark.slow
@pytest.mark.parametrize("axis", LIBERO_AXES)
def test_an_axis_changes_what_it_says_and_nothing_else(before: dict[str, Any], axis: str) -> None:
    after = aspects(libero("high", axis), 5)
    assert {aspect for aspect in before if not alike(before[aspect], after[aspect])} == CHANGES[axis]


def alike(one: Any, other: Any) -> bool:
    """The same; positions to 5 mm or 5 mrad, as heavier things fall into place a little otherwise."""
    return np.allclose(one, other, atol=0.005) if isinstance(one, np.ndarray) else one == other


def snapshot(robot: Any) -> dict[str, Any]:
    model, stat = robot.stage.model, robot.stage.model.stat
    names = [name for name in dir(model) if not name.startswith("_") and isinstance(getattr(model, name), np.ndarray)]
    arrays = {name: getattr(model, name).copy() for name in names}
    light = {name: getattr(model.vis.headlight, name).copy() for name in ("ambient", "diffuse")}
    observed = robot.observe()
    return (
        arrays
        | light
        | dict(observed.images)
        | {
            "extent": stat.extent,
            "center": stat.center.copy(),
            "simulator": robot.stage.start(),
            "state": observed.state,
            "prompt": observed.prompt,
        }
    )


@pytest.mark.slow
def test_nothing_of_a_scene_remembers_the_episodes_before() -> None:
    robot = open_robot(libero("high"))
    robot.reset(44, "0")
    first = snapshot(robot)
    for seed in (45, 3, 44):
        robot.reset(seed, "0")
        robot.act(np.array([0.4, 0.2, -0.5, 0, 0, 0.1, 1.0], np.float32))
        robot.observe()
    robot.reset(44, "0")
    again = snapshot(robot)
    robot.close()
    assert [name for name in first if not np.array_equal(first[name], again[name])] == []


def test_undressed_a_scene_is_as_it_was_built(stage: Any) -> None:
    from flexor.sim.libero.assets import prepare
    from flexor.sim.libero.shift.dressing import CHANGED, Dressing

    built = {name: getattr(stage.model, name).copy() for name in (*CHANGED, "tex_data", "body_pos")}
    dressing = Dressing(stage, prepare().folder)
    dressing.wear(draw_libero_shift(libero("high"), stage.task, 9))
    assert [name for name in built if not np.array_equal(built[name], getattr(stage.model, name))] == [
        *CHANGED,
        "tex_data",
    ]
    dressing.undress()
    assert [name for name in built if not np.array_equal(built[name], getattr(stage.model, name))] == []


def test_what_follows_from_masses_is_what_mujoco_itself_derives(stage: Any) -> None:
    import mujoco  # once flexor has said how it renders

    from flexor.sim.libero.assets import prepare
    from flexor.sim.libero.shift.dressing import Dressing

    dressing = Dressing(stage, prepare().folder)
    names = ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0")
    plain = copy.copy(stage.model)
    mujoco.mj_setConst(plain, mujoco.MjData(plain))
    changes = []
    dressing.wear(LiberoDraw(mass=0.7))
    heavy = copy.copy(stage.model)
    mujoco.mj_setConst(heavy, mujoco.MjData(heavy))
    for name in names:
        changes.append(not np.allclose(getattr(heavy, name), getattr(plain, name), rtol=1e-6))
        np.testing.assert_allclose(getattr(stage.model, name), getattr(heavy, name), rtol=1e-5, atol=1e-12)
    dressing.undress()
    assert all(changes)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["libero_spatial/4", "libero_object/0", "libero_goal/5", "libero_10/2"])
def test_moved_objects_stand_and_distractors_lie_beside_everything(task: str) -> None:
    plain = open_robot(NONE, task)
    shifted = open_robot(libero("high", "object_layout", "distractors", "start_pose"), task)
    number, most, out = task.split("/")[1], 0.0, 0
    for seed in (2, 13):
        plain.reset(seed, number)
        assert not shifted.reset(seed, number).success
        stage, before = shifted.stage, plain.stage
        for name in stage.things:
            offset = stage.position(name) - before.position(name)
            tilt = stage.rotation(name)[:, 2] @ before.rotation(name)[:, 2]
            assert np.abs(offset[:2]).max() < 0.05 + 0.01 and abs(offset[2]) < 0.01 and tilt > 0.98, name
            most = max(most, float(np.abs(offset[:2]).max()))
        bodies = [body for body in range(stage.model.nbody) if stage.model.body(body).name.startswith(PREFIX)]
        placed = [body for body in bodies if stage.data.xpos[body, 2] < 2.0]
        out += len(placed)
        for body in placed:
            assert ground_height(stage) < stage.data.xpos[body, 2] < ground_height(stage) + 0.03
        touching = stage.model.geom_bodyid[stage.data.contact.geom[: stage.data.ncon]]
        assert not np.isin(touching, bodies).any()
    assert most > max(CLEARANCE, ON_FIXTURE)
    assert out >= 4
    plain.close()
    shifted.close()


@pytest.mark.slow
def test_sampled_starts_can_be_shifted_too() -> None:
    robot = open_robot(libero("medium"), starts="sampled")
    first = robot.reset(7, "0")
    begun = robot.stage.start()
    assert first.prompt in {line for kind in wordings(robot.stage.sentence).values() for line in kind}
    robot.reset(8, "0")
    robot.reset(7, "0")
    np.testing.assert_array_equal(robot.stage.start(), begun)
    robot.close()


def test_late_actions_come_late_and_the_gripper_stays_open_until_then() -> None:
    robot = open_robot(libero("high", "action_delay"))
    plain = open_robot(NONE)
    down = np.array([0, 0, -0.8, 0, 0, 0, 1.0], np.float32)
    still = np.array([0, 0, 0, 0, 0, 0, -1.0], np.float32)
    for each in (robot, plain):
        each.reset(1, "0")
    for late, now in ((down, still), (down, still), (down, down), (down, down)):
        robot.act(late)
        plain.act(now)
        np.testing.assert_array_equal(robot.stage.start(), plain.stage.start())
    robot.close()
    plain.close()


def test_the_objects_of_a_draw_are_those_of_the_scene(stage: Any) -> None:
    assert object_names(stage.task) == stage.things
