"""Recordings that a bundle cannot learn from: left out and said so by the daemon, refused by `--once`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from learning_daemon import Learner, publish, settings
from recordings import CAMERAS, record
from small_learners import settings as once

from flexor.errors import FlexorError
from flexor.learner.continual.daemon import LearnerDaemon
from flexor.learner.demonstrations import DemonstrationError
from flexor.learner.lora.learn import LearnWatcher, learn
from flexor.learner.lora.recording_form import RecordingForm
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.labelling import label_episode
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.bundle import Bundle

QUIET = LearnWatcher(lambda done, total: None, lambda standing: None)
ODD = {
    "state": "has states of 9 numbers; small-base.* has 8",
    "action": "has actions of 6 numbers; small-base.* has 7",
    "sensor": "holds nan in its states",
    "label": "holds nan in its actions",
    "played": "holds inf in its played",
    "prompt": "the prompt has 97 tokens, the model takes at most 40; shorten it",
    "rate": "was recorded at 10 Hz; small-base.* acts at 20",
}
"""By what is odd about an episode: what is said of it."""


def odd(root: Path, what: str, number: int = 1) -> list[str]:
    """Record successes of which one thing is odd; their ids."""
    prompt = "put the red cube " * 20 if what == "prompt" else "put the red cube on the plate"
    hz, ids = 10.0 if what == "rate" else 20.0, []
    with EpisodeRecorder(root, images="png") as recorder:
        for _ in range(number):
            recorder.begin(EpisodeMeta("sim:made-up", "red", prompt, 0, "nano@1", "base", hz, CAMERAS))
            for step in range(8):
                state = np.full(9 if what == "state" else 8, 0.1, np.float32)
                action = np.zeros(6 if what == "action" else 7, np.float32)
                label = action.copy()
                if step == 4:
                    state[0] = np.nan if what == "sensor" else state[0]
                    label[1] = np.nan if what == "label" else label[1]
                    action[2] = np.inf if what == "played" else action[2]
                recorder.frames(step, {camera: np.full((48, 48, 3), step, np.uint8) for camera in CAMERAS})
                recorder.step(step, state, action, label=label)
            ids.append(recorder.end("success", None, "sim").stem)
    return ids


@pytest.mark.parametrize("replayed", [False, True], ids=["own", "replayed"])
@pytest.mark.parametrize("what", list(ODD))
def test_an_episode_that_the_bundle_cannot_learn_from_is_left_out_and_said_so_once(
    base: Bundle, tmp_path: Path, what: str, replayed: bool
) -> None:
    data, replay, out = tmp_path / "log", tmp_path / "replay", tmp_path / "adapters"
    for folder in (data, replay):
        record(folder, episodes=4, steps=8)
    (left_out,) = odd(replay if replayed else data, what)
    chosen = settings(held_out=1e-9, steps=2, publish={"every_steps": 2})
    learner = Learner(base, data, out, chosen, count=2, replay=replay)
    assert learner.run(lambda: False)["published"] == 2
    (skipped,) = learner.told("episode.skipped")
    assert skipped["episode"] == left_out
    assert re.search(ODD[what], skipped["told"]), skipped
    for begun in learner.told("publication.begun"):
        assert (begun["own"], begun["replayed"]) == (4, 4)


def test_a_replay_folder_of_which_nothing_can_be_used_ends_the_learner_with_the_way_out(
    base: Bundle, tmp_path: Path
) -> None:
    record(tmp_path / "log", episodes=4, steps=8)
    record(tmp_path / "replay", episodes=4, steps=8, hz=10.0)
    chosen = settings(held_out=1e-9, steps=2, publish={"every_steps": 2})
    with pytest.raises(FlexorError, match=r"of the 4 demonstrations .* none can be learned from.* give the --replay"):
        publish(base, tmp_path / "log", tmp_path / "adapters", chosen, replay=tmp_path / "replay")


@pytest.mark.parametrize("replayed", [False, True], ids=["own", "replayed"])
@pytest.mark.parametrize("what", list(ODD))
def test_once_refuses_a_folder_that_the_bundle_cannot_learn_from(
    base: Bundle, recordings: Path, tmp_path: Path, what: str, replayed: bool
) -> None:
    odd(tmp_path / "odd", what, number=5)
    folders = (recordings, tmp_path / "odd") if replayed else (tmp_path / "odd", None)
    with pytest.raises(DemonstrationError, match=ODD[what]):
        learn(base, folders[0], tmp_path / "adapters", once(), QUIET, folders[1])


def test_once_names_the_episode_of_another_robot_among_the_others(base: Bundle, tmp_path: Path) -> None:
    record(tmp_path, episodes=5, steps=8)
    (other,) = odd(tmp_path, "state")
    with pytest.raises(DemonstrationError, match=rf"8 and 7 in .*9 and 7 in {other}\.mcap.*flexor episodes label"):
        learn(base, tmp_path, tmp_path / "adapters", once(), QUIET)
    label_episode(tmp_path, other, "unknown", None, "ada")
    assert Path(learn(base, tmp_path, tmp_path / "adapters", once(steps=1), QUIET)["adapter"]).is_dir()


def test_a_number_that_a_cache_of_earlier_kept_is_found_too(base: Bundle) -> None:
    states, chunks, broken = np.zeros((4, 8), np.float32), *np.zeros((2, 4, 10, 7), np.float32)
    RecordingForm(base).check("data", {"states": states, "actions": chunks, "played": broken})
    broken[3, 9, 6] = -np.inf
    with pytest.raises(DemonstrationError, match=r"data holds -inf in its played, at \[3, 9, 6\]"):
        RecordingForm(base).check("data", {"states": states, "actions": chunks, "played": broken})


def test_a_rate_that_was_rounded_is_the_same_rate(base: Bundle) -> None:
    RecordingForm(base).check_rate("data", base.config.hz * (1 + 1e-9))
    with pytest.raises(DemonstrationError, match=r"data was recorded at 20\.002 Hz"):
        RecordingForm(base).check_rate("data", base.config.hz * 1.0001)


def some_looks(number: int):
    """Whether it looked so often."""
    looked: list[int] = []
    return lambda: len(looked) > number or looked.append(1) is not None


def test_an_episode_that_cannot_be_used_is_no_news_to_a_learner_that_is_started_again(
    base: Bundle, tmp_path: Path
) -> None:
    data, out = tmp_path / "log", tmp_path / "adapters"
    record(data, episodes=3, steps=8)
    odd(data, "label")
    publishing = {"every_episodes": None, "every_minutes": 1e-9, "min_episodes": 2}
    chosen = settings(held_out=1e-9, steps=2, publish=publishing)
    publish(base, data, out, chosen)
    for _ in range(2):
        again = Learner(base, data, out, chosen)
        assert again.run(some_looks(20))["number"] == 1
        assert len(again.told("episode.skipped")) == 1 and not again.told("publication.begun")
    record(data, episodes=1, steps=8)
    learner, folder = publish(base, data, out, chosen)
    assert learner.told("publication.begun")[0]["new"] == 1
    assert json.loads((folder / "manifest.json").read_text())["version"] == 2


def test_sentences_that_do_not_read_end_the_learner_with_the_way_out_and_it_goes_on_when_they_are_mended(
    base: Bundle, tmp_path: Path
) -> None:
    data, out = tmp_path / "log", tmp_path / "adapters"
    record(data, episodes=4, steps=8)
    whole = (data / "sentences.json").read_bytes()
    chosen = settings(held_out=1e-9, steps=2, publish={"every_steps": 2})
    for broken in (b"{", b"\xff\xfe{}", json.dumps({"red": {"train": ["put it " * 40], "held_out": ["a"]}}).encode()):
        (data / "sentences.json").write_bytes(broken)
        with pytest.raises(FlexorError, match=r"sentences\.json"):
            publish(base, data, out, chosen)
    (data / "sentences.json").write_bytes(whole)
    learner, _ = publish(base, data, out, chosen)
    assert learner.told("adapter.written")[0]["number"] == 1 and not learner.told("publication.abandoned")


def test_a_plan_that_is_given_up_is_not_made_anew_before_the_next_look(
    base: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "log", tmp_path / "adapters"
    paths = record(data, episodes=6, steps=8)
    chosen = settings(held_out=1e-9, steps=4, publish={"every_episodes": 5}, learner={"poll_s": 7.0})
    stopped = Learner(base, data, out, chosen)
    assert stopped.run(lambda: len(stopped.steps) >= 2)["published"] == 0
    label_episode(data, paths[0].stem, "failure", None, "ada")
    waited: list[float] = []
    monkeypatch.setattr(LearnerDaemon, "_wait", lambda self, seconds: waited.append(seconds))
    learner = Learner(base, data, out, chosen)
    learner.run(lambda: bool(learner.told("publication.begun")))
    assert learner.told("publication.abandoned") and waited == [7.0]
