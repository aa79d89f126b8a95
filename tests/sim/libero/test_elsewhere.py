"""Where each thing of a recorded scene would be taken hold of: the expert's answer, at the beginning drawn again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from libero_here import needs_libero
from recordings import record
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.sim.collect import CollectSettings, collect
from flexor.sim.libero.elsewhere import grasps_elsewhere, note_elsewhere
from flexor.sim.libero.stage import Stage
from flexor.sim.libero.starts import draw_start
from flexor.sim.libero.suites import find_suite
from flexor.sim.shift import Shift

pytestmark = [needs_libero, pytest.mark.timeout(600)]


def test_every_object_that_can_be_asked_for_has_its_own_place_near_it():
    task = find_suite("libero_object").find("0")
    stage = Stage(task)
    start = draw_start(stage, 77)
    stage.reset(start.state, start.fixtures)
    places = grasps_elsewhere(stage)
    assert len(places) == 6 and task.name in places
    for name, place in places.items():
        thing = name.partition("_and_place")[0].removeprefix("pick_up_the_") + "_1"
        assert np.hypot(*(np.array(place) - stage.position(thing))[:2]) < 0.03, name
    stage.env.close()


def test_what_does_not_begin_with_a_grasp_of_an_object_has_no_place():
    stage = Stage(find_suite("libero_goal").find("0"))
    start = draw_start(stage, 5)
    stage.reset(start.state, start.fixtures)
    named = {name.partition("@")[0] for name in grasps_elsewhere(stage)}
    assert {"put_the_bowl_on_the_plate", "put_the_cream_cheese_in_the_bowl"} <= named
    assert not named & {"open_the_middle_drawer_of_the_cabinet", "turn_on_the_stove"}
    assert "push_the_plate_to_the_front_of_the_stove" not in named
    stage.env.close()


def test_the_noted_place_is_where_the_recording_closes_and_no_scene_is_drawn_twice(tmp_path: Path):
    settings = CollectSettings(image_size=64, frame_every=10)
    collect(
        tmp_path,
        "sim:libero_object",
        1,
        77,
        1,
        settings,
        lambda *_: None,
        tasks=[find_suite("libero_object").tasks[0].name],
    )
    heard: list[tuple[int, int]] = []
    noted = note_elsewhere(tmp_path, 1, lambda *said: heard.append(said))
    assert heard == [(1, 1)]
    episode = read_episode(next((tmp_path / "episodes").glob("*.mcap")))
    closes = episode.states[int(np.argmax(episode.labels[:, -1] > 0)), :3]
    (places,) = noted["sim:libero_object"].values()
    assert np.abs(places[episode.meta.task] - closes)[:2].max() < 0.02
    told = CliRunner().invoke(app, ["elsewhere", "--data", str(tmp_path), "--json", str(tmp_path / "told.json")])
    assert told.exit_code == 0
    said = json.loads((tmp_path / "told.json").read_text())
    assert {name: said[name] for name in ("scenes", "added", "places")} == {"scenes": 1, "added": 0, "places": 6}


def test_a_shifted_world_and_a_folder_without_libero_are_refused(tmp_path: Path):
    record(tmp_path / "other", episodes=1)
    with pytest.raises(EpisodeError, match="no successful demonstration of LIBERO"):
        note_elsewhere(tmp_path / "other", 1, lambda *_: None)
    settings = CollectSettings(image_size=64, frame_every=10)
    shift = Shift.parse("low", "light", "libero_object")
    collect(tmp_path / "low", "sim:libero_object", 1, 77, 1, settings, lambda *_: None, shift=shift)
    with pytest.raises(FlexorError, match="has shift low and sampled starts"):
        note_elsewhere(tmp_path / "low", 1, lambda *_: None)
