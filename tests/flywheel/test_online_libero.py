"""The flywheel on LIBERO: which placements and frames it works with, and one turn of it on one task."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from exported_bundles import write_micro
from libero_here import needs_libero

from flexor.errors import FlexorError
from flexor.flywheel.online.loop_world import LoopWorld
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.watcher import Watcher
from flexor.flywheel.online.wheel import Wheel
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle
from flexor.settings import load_settings
from flexor.sim.shift import LIBERO_SHIFT_HASH

TASK = "pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"
FEW = [
    "task=libero_spatial",
    f"tasks=[{TASK}]",
    "reserve=1",
    "collect.episodes=2",
    "thresholds.consecutive_failures.trigger_threshold=1",
    "daemon.correct.stall_steps=1",  # the expert takes over at once, so that the second episode teaches
    "daemon.correct.stall_m=10",
    "daemon.correct.turn_steps=220",
    "daemon.hold_limit_s=60",
    "lora.steps=2",
    "lora.batch=2",
    "lora.draws=2",
    "lora.encodings=1",
    "lora.held_out=0.0001",
    "gate.shifted=1",
    "gate.unshifted=1",
    "offer.episodes=0",
    "measure.episodes=1",
    "measure.after=1",
    "measure.unshifted=1",
    "measure.workers=1",
]


def settings(*said: str) -> OnlineSettings:
    return load_settings(OnlineSettings, None, [*FEW, *said])


def trained_on(render: str | None) -> Bundle:
    """pi05-nano, saying that it was trained on such frames."""
    bundle = Bundle.open("pi05-nano")
    origin: dict[str, Any] = {**bundle.config.origin, "render": render}
    return dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, origin=origin))


def test_placements_are_drawn_by_the_seed_and_frames_are_those_of_the_training():
    world = LoopWorld.of(settings(), trained_on("fast"))
    assert world.sim == "sim:libero_spatial" and world.shift.world == "libero"
    assert world.libero is not None and (world.libero.starts, world.libero.render) == ("sampled", "fast")
    assert LoopWorld.of(settings("task=tabletop", "tasks=[]"), trained_on("fast")).libero is None


@pytest.mark.parametrize("render", ["official", None])
def test_demonstrations_of_other_frames_than_the_bundle_knows_are_refused_with_the_way_out(render: str | None):
    with pytest.raises(FlexorError, match=r"trained on official frames of LIBERO.*reserve=0"):
        LoopWorld.of(settings(), trained_on(render))
    assert LoopWorld.of(settings("reserve=0"), trained_on(render)).libero is not None


def test_tasks_take_turns_by_seed_and_an_unknown_one_is_named():
    world = LoopWorld.of(settings("tasks=[b,c]"), trained_on("fast"))
    assert [world.task_of(seed, ["a", "b", "c"]) for seed in (4, 5)] == ["b", "c"]
    with pytest.raises(FlexorError, match="unknown tasks c; the tasks of sim:libero_spatial are a, b"):
        world.task_of(0, ["a", "b"])


@needs_libero
@pytest.mark.nightly
@pytest.mark.timeout(1500)
def test_one_turn_on_one_task_of_a_suite(tmp_path: Path):
    bundle = write_micro(tmp_path / "micro")
    about = json.loads((bundle.path / BUNDLE_JSON).read_text())
    (bundle.path / BUNDLE_JSON).write_text(json.dumps({**about, "origin": {"weights": "random", "render": "fast"}}))
    said: list[str] = []
    watcher = Watcher(lambda stage: said.append(stage.key), said.append, lambda row: None)
    run = tmp_path / "run"
    with Wheel(run, 1, 0, settings(f"model.bundle={bundle.path}"), watcher) as wheel:
        told = wheel.turn()
    assert told["cycles"][0]["state"] == "ACTIVE", said
    assert told["before"]["episodes"] == told["after"]["last"]["episodes"] == 1
    rows = EpisodeIndex(run / "episodes").episodes()
    assert {row.task for row in rows} == {TASK} and rows[1].interventions
    about = read_episode(run / "episodes" / rows[0].file).meta.extra
    assert (about["starts"], about["render"]) == ("sampled", "fast")
    assert (about["shift"]["level"], about["shift"]["hash"]) == ("medium", LIBERO_SHIFT_HASH)
