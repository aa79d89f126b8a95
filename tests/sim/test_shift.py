"""Domain shift: each axis changes what it says and nothing else, `none` is untouched, and the oracle copes."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.sim.actuation import Actuation
from flexor.sim.collect import CollectSettings, collect
from flexor.sim.distractors import PREFIX
from flexor.sim.layout import draw_layout
from flexor.sim.robots import TabletopRobot
from flexor.sim.scenes import AGENT_CAMERA, LAMP, SCENES, TABLE_GEOM, Scene, scene_xml
from flexor.sim.sentences import sentences, spoken
from flexor.sim.shift import NONE, SHIFT_HASH, Shift, ShiftError, table_hash
from flexor.sim.shift_draw import ShiftDraw, draw_shift
from flexor.sim.shift_table import AXES, DIALS, LEVELS, markdown
from flexor.sim.tabletop import TabletopEnv
from flexor.sim.tasks import TASKS
from flexor.sim.trial import attempt
from flexor.sim.world import World

SHIFTED = LEVELS[1:]
DOCS = Path(__file__).parents[2] / "docs" / "shift.md"


def drawn(shift: Shift, scene: Scene, seed: int) -> ShiftDraw:
    return draw_shift(shift, scene, seed, draw_layout(scene, seed))


def test_the_severities_are_those_of_the_published_hash() -> None:
    assert table_hash() == SHIFT_HASH, "severities changed: measure again, then write the new hash"


def test_the_table_in_the_docs_is_the_code_s() -> None:
    assert markdown() in DOCS.read_text(), f"docs/shift.md has another table; the code's is\n{markdown()}"
    assert SHIFT_HASH in DOCS.read_text()


# Taken from the simulation before it knew of shifts: model text, layouts, looks and bodies of three seeds.
UNSHIFTED = {"blocks": "0440770ef17088ea", "towers": "233ca83ddf3380e7", "mats": "59069918fa510499"}
LOOKS = (
    "geom_rgba", "light_diffuse", "light_dir", "cam_pos", "cam_quat", "geom_size", "geom_friction", "body_mass",
    "body_pos",
)  # fmt: skip
# The same simulation's gripper (m) after twelve actions, in the third seed.
GRIP = {"blocks": (0.456519107, 0.002633057, 0.272802418), "towers": (0.451176876, 0.007055225, 0.244238187)}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return np.round(np.asarray(value, dtype=float), 9).tolist()


@pytest.mark.parametrize("name", SCENES)
def test_without_a_shift_the_simulation_is_what_it_was_before_there_were_any(name: str) -> None:
    scene = SCENES[name]
    seen = hashlib.sha256(scene_xml(scene).encode())
    world = World(scene)
    for seed in (0, 17, 5003):
        seen.update(json.dumps(plain(asdict(draw_layout(scene, seed))), sort_keys=True).encode())
        world.reset(seed)
        seen.update(json.dumps([plain(getattr(world.model, array)) for array in LOOKS]).encode())
        seen.update(json.dumps(plain(world.model.vis.headlight.ambient)).encode())
    assert seen.hexdigest()[:16] == UNSHIFTED[name]
    for a in np.linspace(-0.6, 0.6, 12):
        world.act(np.array([a, -a, 0.3, 0, 0.1, a, 1]))
    if name in GRIP:
        np.testing.assert_allclose(world.grip_position(), GRIP[name], atol=1e-6)


def test_level_none_says_nothing_whatever_its_axes() -> None:
    for scene in SCENES.values():
        assert drawn(Shift("none", ("light",)), scene, 3) == ShiftDraw() == drawn(NONE, scene, 3)
    assert Shift("none", ("light",)).to_dict() == {"level": "none", "axes": [], "hash": SHIFT_HASH}


def aspects(shift: Shift, scene: Scene, seed: int) -> dict[str, Any]:
    """Everything that an axis may change, by the name of what it is."""
    world = World(scene, shift)
    world.reset(seed)
    model, draw = world.model, world.drawn
    own = [g for g in range(model.ngeom) if not model.geom(g).name.startswith(PREFIX)]
    painted = {model.geom(g).name: model.geom_rgba[g].tolist() for g in own}
    things = [item.name for item in scene.items]
    items = {name: rgba for name, rgba in painted.items() if name.startswith(tuple(things))}
    actuation, sent = Actuation(draw, seed), [np.full(7, 0.1 * step) for step in range(6)]
    arrived = [actuation.send(command) for command in sent]
    cameras = [model.camera(name) for name in (AGENT_CAMERA, "robot0_eye_in_hand")]
    return {
        "lamp": [model.light(LAMP).diffuse.tolist(), model.light(LAMP).dir.tolist()],
        "ambient": model.vis.headlight.ambient.tolist(),
        "table": painted.pop(TABLE_GEOM),
        "items": items,
        "room": {name: rgba for name, rgba in painted.items() if name not in items},
        "cameras": [(camera.pos.tolist(), camera.quat.tolist()) for camera in cameras],
        "sizes": {model.geom(g).name: model.geom_size[g].tolist() for g in own},
        "masses": {name: [model.body(name).mass[0], model.body(name).inertia.tolist()] for name in [*things, "hand"]},
        "friction": {model.geom(g).name: model.geom_friction[g].tolist() for g in own},
        "places": {name: np.round(world.position(name)[:2], 4).tolist() for name in things},
        "others": [place for place in draw.places],
        "start": np.round(world.joint_positions(), 4).tolist(),
        "late": [command is None for command in arrived].count(True),
        "bent": arrived[-1] is None or not any(np.array_equal(arrived[-1], command) for command in sent),
        "sentences": [spoken(task, draw) for task in TASKS.values() if task.scene == scene.name],
    }


CHANGES = {
    "light": {"lamp", "ambient"},
    "table_colour": {"table"},
    "object_colour": {"items"},
    "camera_pose": {"cameras"},
    "object_size": {"sizes", "masses"},
    "friction": {"friction"},
    "distractors": {"others"},
    "start_pose": {"start"},
    "action_delay": {"late"},
    "action_noise": {"bent"},
    "paraphrase": {"sentences"},
}


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", SCENES)
def test_an_axis_changes_what_it_says_and_nothing_else(name: str, axis: str) -> None:
    before, after = aspects(NONE, SCENES[name], 5), aspects(Shift("high", (axis,)), SCENES[name], 5)
    assert {aspect for aspect in before if before[aspect] != after[aspect]} == CHANGES[axis]


OF_EACH_KIND = (
    "red_block_on_plate", "blue_block_in_box", "green_block_on_yellow_block", "puck_to_white_mat",
    "orange_block_on_black_mat",
)  # fmt: skip


@pytest.mark.parametrize("level", SHIFTED)
@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_the_oracle_still_solves_the_task(name: str, level: str) -> None:
    task = TASKS[name]
    assert attempt(task, World(SCENES[task.scene], Shift(level)), 31).success


def test_severity_grows_with_the_level() -> None:
    for dial in DIALS:
        if dial.name == "wording":
            continue
        reach = [np.abs(np.asarray(dial.amount(level)[0])) + np.asarray(dial.amount(level)[1]) for level in SHIFTED]
        assert all(np.all(less <= more) for less, more in pairwise(reach)), dial.name


def test_an_unknown_level_or_axis_is_named_with_the_known_ones() -> None:
    with pytest.raises(ShiftError, match=r"'extreme'.*none, low, medium, high"):
        Shift("extreme")
    with pytest.raises(ShiftError, match=r"'smell'.*light.*paraphrase"):
        Shift.parse("low", "light, smell")
    with pytest.raises(ShiftError, match="no axis"):
        Shift("low", ())
    assert Shift.parse("low", "friction, light") == Shift("low", ("light", "friction"))


def test_robot_and_environment_are_in_the_shift_that_they_are_told() -> None:
    shift = Shift("high", ("paraphrase", "table_colour"))
    robot = TabletopRobot(64, shift)
    env = TabletopEnv("blue_block_in_box", 64, shift=shift)
    unshifted = TabletopRobot(64)
    try:
        assert robot.spec.conditions == {"shift": shift.to_dict()}
        assert unshifted.spec.conditions == {"shift": NONE.to_dict()}
        begun = robot.reset(8, "blue_block_in_box")
        seen, (shown, info) = robot.observe(), env.reset(seed=8)
        assert begun.prompt == seen.prompt == info["prompt"]
        assert seen.prompt not in sentences(TASKS["blue_block_in_box"])
        assert np.array_equal(seen.images["agentview"], shown["agentview_image"])
        unshifted.reset(8, "blue_block_in_box")
        assert not np.array_equal(seen.images["agentview"], unshifted.observe().images["agentview"])
    finally:
        robot.close()
        env.close()
        unshifted.close()


def test_recordings_say_their_shift_and_sentence_and_are_not_mixed_with_others(tmp_path: Path) -> None:
    shift = Shift("medium")
    collect(tmp_path, "sim:tabletop", 1, 40, 1, CollectSettings(), lambda demonstration, _: None, shift)
    (row,) = EpisodeIndex(tmp_path).episodes()
    meta = read_episode(tmp_path / row.file).meta
    assert meta.extra["shift"] == shift.to_dict()
    task = TASKS[meta.task]
    assert meta.prompt == spoken(task, drawn(shift, SCENES[task.scene], 40))
    with pytest.raises(EpisodeError, match=r"'level': 'medium'.*'level': 'none'.*folder of their own"):
        collect(tmp_path, "sim:tabletop", 2, 40, 1, CollectSettings(), lambda demonstration, _: None)


def test_nothing_of_a_model_remembers_the_episodes_before() -> None:
    """A picture follows from the seed alone: the extent of a model moves its clipping planes, and so pixels."""

    def dressed(world: World) -> dict[str, Any]:
        model, stat = world.model, world.model.stat
        arrays = {name: getattr(model, name).copy() for name in dir(model) if _is_array(model, name)}
        measured = ("extent", "meansize", "meanmass", "meaninertia")
        return arrays | {name: getattr(stat, name) for name in measured} | {"center": stat.center.copy()}

    world = World(SCENES["mats"], Shift("high"))
    world.reset(44)
    first = dressed(world)
    for seed in (45, 46, 44):
        world.reset(seed)
    again = dressed(world)
    assert [name for name in first if not np.array_equal(first[name], again[name])] == []


def _is_array(model: object, name: str) -> bool:
    return not name.startswith("_") and isinstance(getattr(model, name, None), np.ndarray)
