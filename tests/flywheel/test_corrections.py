"""The simulated robot's own expert corrects a policy that does nothing: the real daemon, the real tabletop."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_world import PointRobot
from scripted_client import Clock, ScriptedClient

from flexor.errors import FlexorError
from flexor.flywheel.robot_session import corrector_of, expert_of
from flexor.learner.demonstrations import read_samples
from flexor.learner.lora.advice_reach import advice_reach
from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.settings import ReplaySettings
from flexor.runtime.driving.adviser import Adviser
from flexor.runtime.driving.corrector import CorrectionSettings
from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.episodes.episode import Episode, read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.sim.robots import TabletopRobot
from flexor.sim.scenes import CAMERAS


class IdleClient(ScriptedClient):
    """A policy that stands still."""

    def hello(self):
        return {**super().hello(), "cameras": list(CAMERAS)}

    def ask(self, observation, step, delay_steps, action_prefix, budget_ms) -> int:
        number = super().ask(observation, step, delay_steps, action_prefix, budget_ms)
        due, reply = self.under_way[-1]
        assert reply.chunk is not None
        still = np.zeros_like(reply.chunk.actions)
        still[:, -1] = -1.0
        self.under_way[-1] = (due, dataclasses.replace(reply, chunk=dataclasses.replace(reply.chunk, actions=still)))
        return number


def play(robot: TabletopRobot, root: Path, settings: DaemonSettings | None = None, **helped: Any) -> RunReport:
    """One episode of the policy that stands still, on a clock of its own; `helped` as Daemon takes it."""
    clock = Clock()
    client: Any = IdleClient(clock, lambda step: 0.02)
    with EpisodeRecorder(root) as recorder:
        daemon = Daemon(robot, client, recorder, settings, **helped, now=clock.now, sleep=clock.sleep)
        return daemon.run(1, 3, [next(iter(robot.spec.tasks))])


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunReport, Episode]:
    root: Path = tmp_path_factory.mktemp("corrected")
    robot = TabletopRobot(image_size=32)
    settings = DaemonSettings(correct=CorrectionSettings(stall_steps=5, turn_steps=20))
    try:
        report = play(robot, root, settings, intervener=corrector_of(robot, settings.correct))
    finally:
        robot.close()
    return report, read_episode(report.results[0].path)


def test_the_expert_does_what_the_policy_does_not(corrected: tuple[RunReport, Episode]) -> None:
    report, episode = corrected
    assert [result.outcome for result in report.results] == ["success"]
    assert set(report.interventions) == {"stall"}
    assert report.results[0].interventions >= 2  # it was handed back, and had to take over again
    assert report.intervened_steps == int(episode.interventions.sum()) > 30
    assert report.to_dict()["successes_alone"] == 0


def test_what_is_to_be_learned_is_the_experts_action_and_has_frames(corrected: tuple[RunReport, Episode]) -> None:
    _, episode = corrected
    mine, theirs = ~episode.interventions, episode.interventions
    assert not episode.actions[mine][:, :6].any()
    assert episode.labels[theirs][:, :6].any(axis=1).mean() > 0.9
    begins = [event.step for event in episode.events if event.kind == "intervention.begin"]
    ends = [event.step for event in episode.events if event.kind == "intervention.end"]
    assert [end - begin for begin, end in zip(begins, ends, strict=True)][:-1] == [20] * (len(begins) - 1)
    for begin, end in zip(begins, ends, strict=True):
        assert set(range(begin, end, 2)) <= set(episode.frames[CAMERAS[0]])


def test_an_adviser_says_at_every_step_what_it_would_do_and_leaves_the_arm(tmp_path: Path) -> None:
    robot = TabletopRobot(image_size=32)
    try:
        report = play(robot, tmp_path, adviser=Adviser(expert_of(robot)))
        robot.reset(3, next(iter(robot.spec.tasks)))
        first = robot.expert()()
    finally:
        robot.close()
    episode = read_episode(report.results[0].path)
    assert report.results[0].outcome == "failure" and report.intervened_steps == 0
    assert episode.advised.all() and not episode.interventions.any()
    assert not episode.actions[:, :6].any()  # the arm stood still
    np.testing.assert_array_equal(episode.labels[0], first)
    assert episode.labels[:, :3].any(axis=1).all()
    assert set(range(0, len(episode.steps), 2)) <= set(episode.frames[CAMERAS[0]])
    (row,) = EpisodeIndex(tmp_path).episodes()
    assert (row.advised, row.interventions) == (len(episode.steps), 0)
    assert OnlinePool.of([row], ReplaySettings()).weights[row.task].keys() == {row.id}


def test_where_the_policy_looked_the_adviser_plans_a_chunk_and_all_of_it_is_learned(tmp_path: Path) -> None:
    robot = TabletopRobot(image_size=32)
    try:
        report = play(robot, tmp_path, adviser=Adviser(expert_of(robot)))
        robot.reset(3, next(iter(robot.spec.tasks)))
        first = robot.expert().plan(10)
    finally:
        robot.close()
    file = report.results[0].path
    episode = read_episode(file)
    assert set(episode.plans) == set(episode.frames[CAMERAS[0]])
    np.testing.assert_array_equal(episode.plans[0], first)
    for step, plan in episode.plans.items():
        np.testing.assert_array_equal(plan[0], episode.labels[step])
    # the arm stands still, so that single answers would ask for the same way again and again
    assert np.abs(episode.plans[0][-1] - episode.labels[9]).max() > 1e-3
    read = read_samples(file, episode, CAMERAS, 32, 10, io.BytesIO())
    np.testing.assert_array_equal(read["actions"][0], first)
    assert advice_reach(read["actions"], read["played"], 0.05).tolist() == [10] * len(episode.plans)
    longer = read_samples(file, episode, CAMERAS, 32, 12, io.BytesIO())  # than what was planned: single answers again
    np.testing.assert_array_equal(longer["actions"][0], episode.labels[:12])


def test_labels_without_an_adviser_are_no_advice(corrected: tuple[RunReport, Episode]) -> None:
    assert not corrected[1].advised.any()


def test_a_robot_without_an_expert_is_refused() -> None:
    with pytest.raises(FlexorError, match="robot sim:point has no expert that could take over"):
        corrector_of(PointRobot(), CorrectionSettings())
