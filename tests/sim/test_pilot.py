"""The pilot: a policy takes turns with the expert while demonstrations are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flexor
from flexor.errors import FlexorError
from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.sim.collect import CollectSettings, collect
from flexor.sim.disturbance import DisturbanceSettings
from flexor.sim.pilot import PilotSettings

TURN, REST = 12, 9
PILOT = PilotSettings(bundle="pi05-nano", turn_low=TURN, turn_high=TURN, rest_low=REST, rest_high=REST)
CALM = DisturbanceSettings(episode_share=0.0, drop_share=0.0)


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    """One episode with every frame kept as it was seen, and a calm expert."""
    out = tmp_path_factory.mktemp("piloted")
    settings = CollectSettings(frame_every=1, images="png", disturbance=CALM, pilot=PILOT)
    collect(out, "sim:tabletop", 1, 40, 1, settings, lambda demonstration, missing: None)
    (row,) = EpisodeIndex(out).episodes()
    return read_episode(out / row.file)


def test_the_policy_begins_and_the_two_take_turns(episode: Episode) -> None:
    undone = len(episode.steps) - CollectSettings().linger_steps - 1  # after success the expert plays alone
    policys = np.arange(undone) % (TURN + REST) < TURN
    same = (episode.actions[:undone] == episode.labels[:undone]).all(axis=1)
    assert undone > TURN + REST
    assert same[~policys].all()
    assert not same[policys].any()


def test_the_policys_turn_is_played_by_its_chunks_for_what_it_sees(episode: Episode) -> None:
    policy = flexor.load("pi05-nano", seed=0)
    for step in (0, 5, 10):
        images = {camera: frames[step] for camera, frames in episode.frames.items()}
        state, prompt = episode.states[step], episode.meta.prompt
        chunk = policy.infer({"images": images, "state": state, "prompt": prompt}).actions
        played = episode.actions[step : min(step + 5, TURN)]
        np.testing.assert_allclose(played, np.clip(chunk[: len(played)], -1.0, 1.0), atol=1e-6)


def test_a_recording_says_who_piloted(episode: Episode) -> None:
    assert episode.meta.bundle == "oracle"
    assert episode.meta.extra["pilot"] == flexor.load("pi05-nano").describe()["bundle"]


def test_an_unknown_pilot_is_refused_by_name(tmp_path: Path) -> None:
    settings = CollectSettings(pilot=PilotSettings(bundle="no-such-bundle"))
    with pytest.raises(FlexorError, match="no-such-bundle"):
        collect(tmp_path, "sim:tabletop", 1, 0, 1, settings, lambda demonstration, missing: None)


@pytest.mark.parametrize("bounds", [{"turn_low": 41}, {"rest_high": 14}])
def test_turns_whose_bounds_are_the_wrong_way_round_are_refused_by_name(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bounds))):
        PilotSettings(**bounds)
