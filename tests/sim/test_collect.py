"""Demonstrations: what is recorded, that a stopped recording goes on, and the words that come with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from libero_here import needs_libero
from numpy.typing import NDArray

from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.robot import RobotFault, Status
from flexor.sim.collect import CollectSettings, Demonstration, collect, record_demonstration
from flexor.sim.disturbance import Disturbance, DisturbanceSettings
from flexor.sim.robots import TabletopRobot
from flexor.sim.sentences import sentences, split
from flexor.sim.tasks import TASKS

SIM = "sim:tabletop"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Demonstration]]:
    out = tmp_path_factory.mktemp("demonstrations")
    told: list[Demonstration] = []
    collect(out, SIM, 4, 20, 2, CollectSettings(), lambda demonstration, _: told.append(demonstration))
    return out, told


@pytest.fixture(scope="module")
def episodes(recorded: tuple[Path, list[Demonstration]]) -> list[Episode]:
    out, _ = recorded
    return [read_episode(out / row.file) for row in EpisodeIndex(out).episodes()]


def test_each_seed_becomes_one_successful_episode_of_its_task(episodes: list[Episode]) -> None:
    assert sorted(episode.meta.seed for episode in episodes) == [20, 21, 22, 23]
    assert [(episode.meta.seed, episode.meta.task) for episode in sorted(episodes, key=lambda e: e.meta.seed)] == [
        (20 + i, task) for i, task in enumerate(list(TASKS)[:4])
    ]
    assert {episode.outcome for episode in episodes} == {"success"}


def test_named_tasks_take_turns_and_are_told_apart_from_others_of_the_same_seed(tmp_path: Path) -> None:
    told: list[Demonstration] = []
    for names in (["puck_to_white_mat", "puck_to_black_mat"], ["puck_to_black_mat"]):
        collect(
            tmp_path, SIM, 2, 30, 1, CollectSettings(), lambda demonstration, _: told.append(demonstration), tasks=names
        )
    assert [(demonstration.seed, demonstration.task) for demonstration in told] == [
        (30, "puck_to_white_mat"),
        (31, "puck_to_black_mat"),
        (30, "puck_to_black_mat"),  # 31 was there
    ]


def test_cameras_are_recorded_at_every_second_step(episodes: list[Episode]) -> None:
    for episode in episodes:
        for frames in episode.frames.values():
            assert list(frames) == list(range(0, len(episode.steps), 2))


def test_the_label_is_the_experts_action_and_the_arm_played_a_disturbed_one(episodes: list[Episode]) -> None:
    differences = [np.abs(episode.labels - episode.actions).max() for episode in episodes]
    assert max(differences) > 0.1
    for episode in episodes:
        assert np.array_equal(episode.labels[-8:], episode.actions[-8:])  # after success nobody pushes
        assert np.all(episode.labels[-8:, 6] == -1)  # and the gripper stays open


def test_a_recording_that_goes_on_skips_what_it_has(recorded: tuple[Path, list[Demonstration]]) -> None:
    out, first = recorded
    told: list[Demonstration] = []
    collect(out, SIM, 5, 20, 1, CollectSettings(), lambda demonstration, _: told.append(demonstration))
    assert len(first) == 4
    assert [demonstration.seed for demonstration in told] == [24]


def test_a_seed_whose_recording_was_broken_off_is_recorded_again(
    recorded: tuple[Path, list[Demonstration]], tmp_path: Path
) -> None:
    done = read_episode(recorded[0] / EpisodeIndex(recorded[0]).episodes()[0].file)
    with EpisodeRecorder(tmp_path) as recorder:
        recorder.begin(replace(done.meta, seed=20))  # and never ended: an abort that nobody judged
    told: list[Demonstration] = []
    collect(tmp_path, SIM, 1, 20, 1, CollectSettings(), lambda demonstration, _: told.append(demonstration))
    assert [demonstration.seed for demonstration in told] == [20]
    assert {row.outcome for row in EpisodeIndex(tmp_path).episodes()} == {"abort", "success"}


class BreakingRobot(TabletopRobot):
    """Breaks down at a control step, counted from 1; at 0 before the first one."""

    def __init__(self, at: int) -> None:
        super().__init__(64)
        self._at = at

    def reset(self, seed: int, task: str) -> Status:
        if self._at == 0:
            raise RobotFault("no placement was found")
        return super().reset(seed, task)

    def act(self, action: NDArray[np.float32]) -> Status:
        if self._step + 1 == self._at:
            raise RobotFault("the arm fell off")
        return super().act(action)


@pytest.mark.parametrize(("at", "reason"), [(0, "no placement was found"), (3, "the arm fell off")])
def test_a_simulation_that_breaks_down_is_a_failed_demonstration_which_a_recording_that_goes_on_skips(
    tmp_path: Path, at: int, reason: str
) -> None:
    robot, task = BreakingRobot(at), next(iter(TASKS))
    with EpisodeRecorder(tmp_path) as recorder:
        ended = record_demonstration(robot, recorder, task, 20, CollectSettings())
    robot.close()
    assert ended == Demonstration(20, task, False, at, reason)
    (row,) = EpisodeIndex(tmp_path).episodes()
    episode = read_episode(tmp_path / row.file)
    assert (episode.outcome, episode.meta.seed, len(episode.steps)) == ("failure", 20, at)
    assert [(event.kind, event.data) for event in episode.events] == [("robot.fault", {"reason": reason})]
    told: list[Demonstration] = []
    collect(tmp_path, SIM, 1, 20, 1, CollectSettings(), lambda demonstration, _: told.append(demonstration))
    assert told == []


@pytest.mark.parametrize("bounds", [{"burst_low": 13}, {"noise_high": 0.1}])
def test_bounds_the_wrong_way_round_are_refused_by_name(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(burst|noise)_low is .* expected (burst|noise)_low of at most"):
        DisturbanceSettings.model_validate(bounds)


def test_sentences_lie_beside_the_demonstrations(recorded: tuple[Path, list[Demonstration]]) -> None:
    table = json.loads((recorded[0] / "sentences.json").read_text())
    assert set(table) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_twenty_sentences_to_train_on_and_a_fifth_of_all_is_held_out(name: str) -> None:
    lines, parts = sentences(TASKS[name]), split(TASKS[name])
    assert len(set(lines)) == len(lines)
    assert sorted(parts["train"] + parts["held_out"]) == sorted(lines)
    assert len(parts["train"]) == 20
    assert len(parts["held_out"]) == 5
    assert lines[0] in parts["train"]


def test_every_word_of_a_held_out_sentence_is_trained_on() -> None:
    words = {
        kind: {w for t in TASKS.values() for s in split(t)[kind] for w in s.split()} for kind in ("train", "held_out")
    }
    assert words["held_out"] <= words["train"]


def test_no_sentence_means_two_tasks() -> None:
    lines = [line for task in TASKS.values() for line in sentences(task)]
    assert len(set(lines)) == len(lines)


def test_without_disturbance_the_action_passes_through() -> None:
    calm = DisturbanceSettings(episode_share=0.0, drop_share=0.0)
    action = np.linspace(-1, 1, 7, dtype=np.float32)
    disturbance = Disturbance(calm, np.random.default_rng(0))
    for step in range(50):
        np.testing.assert_array_equal(disturbance.apply(step, action), action)


def test_a_drop_opens_the_gripper_for_its_steps_only() -> None:
    dropping = DisturbanceSettings(episode_share=0.0, drop_share=1.0, drop_steps=3, drop_before=10)
    disturbance = Disturbance(dropping, np.random.default_rng(0))
    close = np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32)
    opened = [step for step in range(20) if disturbance.apply(step, close)[6] < 0]
    assert len(opened) == 3
    assert opened == list(range(opened[0], opened[0] + 3))


@needs_libero
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_counterfactual_demonstrations_say_and_show_another_task_of_the_scene(tmp_path: Path) -> None:
    told: list[Demonstration] = []
    collect(
        tmp_path,
        "sim:libero_spatial",
        1,
        6,
        1,
        CollectSettings(frame_every=50),
        lambda demonstration, _: told.append(demonstration),
        tasks=["pick_up_the_black_bowl_from_table_center_and_place_it_on_the_plate"],
        counterfactual=True,
    )
    (row,) = EpisodeIndex(tmp_path).episodes()
    episode = read_episode(tmp_path / row.file)
    asked = "pick_up_the_black_bowl_next_to_the_plate_and_place_it_on_the_plate"
    assert told[0].success and told[0].task == episode.meta.task
    assert episode.meta.task == f"{asked}@pick_up_the_black_bowl_from_table_center_and_place_it_on_the_plate"
    assert episode.meta.prompt == asked.replace("_", " ")
    assert json.loads((tmp_path / "sentences.json").read_text())[episode.meta.task]["train"][0] == episode.meta.prompt


@needs_libero
def test_a_scene_without_another_task_has_no_counterfactual_demonstrations(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="unknown tasks juggle"):
        collect(tmp_path, "sim:libero_goal", 1, 0, 1, CollectSettings(), lambda *_: None, tasks=["juggle"])
