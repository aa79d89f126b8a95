"""The daemon's plan under a fake clock: when it asks, what it commits to, what it plays, and that it keeps its rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_world import ElsewherePoint
from scripted_client import Clock, ScriptedClient, TimedRobot

from flexor.errors import FlexorError
from flexor.runtime.driving.daemon import Daemon, DaemonSettings, ServerGone
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.robot import Status
from flexor.runtime.serving.client import ServerTimeout

PERIOD = 0.05


def run(
    tmp_path: Path, latency: Any, steps: int = 30, rtc_max_delay: int = 5, work: Any = lambda step: 0.0, **settings
):
    clock = Clock()
    client, robot = ScriptedClient(clock, latency, rtc_max_delay), TimedRobot(clock, steps, work)
    with EpisodeRecorder(tmp_path) as recorder:
        daemon = Daemon(
            robot,
            client,  # type: ignore[arg-type]
            recorder,
            DaemonSettings(**settings),
            now=clock.now,
            sleep=clock.sleep,
        )
        report = daemon.run(1, 0, ["left"])
    return client, robot, report


def origin(command: np.ndarray | None) -> tuple[int, int] | None:
    """(anchor, row) that a played action was made as; None for a hold."""
    return None if command is None else (round(float(command[3]) * 1000), round(float(command[4]) * 100))


@pytest.mark.parametrize(
    ("latency_ms", "delay", "asks"),
    [
        (20, 1, [0, 4, 8, 12, 16, 20]),
        (60, 2, [0, 3, 6, 9, 12, 15]),
        (140, 3, [0, 2, 5, 8, 11, 14]),  # due 2 steps after the last, and never before that one is answered
    ],
)
def test_it_asks_early_by_the_expected_delay_and_plays_every_step_on_time(tmp_path, latency_ms, delay, asks):
    client, robot, report = run(tmp_path, lambda step: latency_ms / 1000)
    assert [ask["step"] for ask in client.asked][:6] == asks
    assert {ask["delay"] for ask in client.asked[1:]} == {delay}
    assert len(robot.commands) == 30
    assert report.holds == report.stale == report.overruns == 0
    start = robot.times[0]
    assert robot.times == pytest.approx([start + PERIOD * step for step in range(30)])
    for ask in client.asked[1:]:
        assert ask["time"] == pytest.approx(start + PERIOD * ask["step"])


def test_the_first_action_waits_for_the_first_chunk_so_that_none_of_it_is_skipped(tmp_path):
    client, robot, _ = run(tmp_path, lambda step: 0.18)
    assert robot.times[0] == pytest.approx(client.asked[0]["time"] + 0.18)
    assert origin(robot.commands[0]) == (0, 0)


def test_an_action_is_played_at_the_step_it_was_made_for(tmp_path):
    """Without prefixes every action tells its chunk: row = step - anchor, of the newest chunk that is here."""
    client, robot, _ = run(tmp_path, lambda step: 0.06, splice="replan")
    assert [ask["prefix"] for ask in client.asked] == [None] * len(client.asked)
    expected = [(0, step) for step in range(5)]  # asked at 3, two steps of delay: takes over at 5 with its row 2
    expected += [(anchor, step - anchor) for anchor in range(3, 27, 3) for step in range(anchor + 2, anchor + 5)]
    assert [origin(command) for command in robot.commands[: len(expected)]] == expected[:30]


def test_the_action_prefix_is_exactly_what_is_played_until_the_chunk_comes(tmp_path):
    client, robot, _ = run(tmp_path, lambda step: 0.11)
    assert len(client.asked) > 5
    for ask in client.asked[1:]:
        assert ask["prefix"].shape == (ask["delay"], 7) == (3, 7)
        played = robot.commands[ask["step"] : ask["step"] + ask["delay"]]
        assert np.array_equal(ask["prefix"][: len(played)], np.array(played))


def test_the_prefix_is_never_longer_than_the_bundle_was_trained_for(tmp_path):
    client, _, _ = run(tmp_path, lambda step: 0.23, rtc_max_delay=2)
    assert all(ask["prefix"] is None or len(ask["prefix"]) <= 2 for ask in client.asked)
    assert any(ask["prefix"] is not None for ask in client.asked)


def test_one_slow_reply_raises_the_expected_delay_for_a_while_and_then_it_comes_down(tmp_path):
    client, _, _ = run(tmp_path, lambda step: 0.17 if step == 4 else 0.02, steps=80)
    delays = [ask["delay"] for ask in client.asked]
    assert delays[:3] == [0, 1, 4]
    assert delays[-1] == 1


def test_a_reply_that_comes_after_its_chunk_has_ended_is_stale_and_never_played(tmp_path):
    client, robot, report = run(tmp_path, lambda step: 0.6 if step == 4 else 0.02, steps=40)
    assert report.stale == 1
    assert 4 in [ask["step"] for ask in client.asked]
    assert all(command is None or origin(command)[0] != 4 for command in robot.commands)  # type: ignore[index]
    assert [step for step, command in enumerate(robot.commands) if command is None] == [10, 11, 12, 13, 14]
    assert report.holds == 5
    assert [ask["step"] for ask in client.asked][:3] == [0, 4, 14]


def test_a_lost_request_is_asked_again_when_its_chunk_would_be_of_no_use(tmp_path):
    client, _, report = run(tmp_path, lambda step: None if step == 4 else 0.02, steps=40)
    assert [ask["step"] for ask in client.asked][:3] == [0, 4, 14]
    assert report.results[0].outcome == "failure"  # out of steps, as planned
    assert report.stale == 0


def test_a_step_that_takes_too_long_is_counted_once_and_not_made_up_for(tmp_path):
    _, robot, report = run(tmp_path, lambda step: 0.02, steps=12, work=lambda step: 0.17 if step == 5 else 0.01)
    gaps = np.diff(robot.times)
    assert report.overruns == 1
    assert gaps[5] == pytest.approx(0.17)
    assert np.delete(gaps, 5) == pytest.approx([PERIOD] * 10)


def test_a_server_that_falls_silent_means_holding_every_step_and_then_a_safe_stop(tmp_path):
    client, robot, report = run(tmp_path, lambda step: 0.02 if step == 0 else None, steps=200, hold_limit_s=1.0)
    result = report.results[0]
    assert result.outcome == "abort"
    assert "did not answer for 1 s, the arm is held" in result.reason
    assert all(command is not None for command in robot.commands[:10])
    assert len(robot.commands) > 30
    assert all(command is None for command in robot.commands[10:])
    assert report.holds == result.holds == len(robot.commands) - 11  # the last one is the stop itself
    assert client.ended == ["abort"]
    episode = read_episode(result.path)
    assert episode.outcome == "abort"
    held = episode.actions[episode.steps >= 10]
    assert not held[:, :6].any()
    assert (held[:, 6] == 1.0).all()  # the gripper stays as it was


def test_a_server_that_never_answers_the_first_question_moves_nothing(tmp_path):
    _, robot, report = run(tmp_path, lambda step: None)
    assert report.results[0].outcome == "abort"
    assert robot.commands == [None]


def test_what_the_policy_saw_is_on_disk_for_every_question(tmp_path):
    client, _, report = run(tmp_path, lambda step: 0.06)
    episode = read_episode(report.results[0].path)
    steps = [ask["step"] for ask in client.asked]
    assert {camera: list(frames) for camera, frames in episode.frames.items()} == {"agentview": steps, "wrist": steps}
    assert [recorded.step for recorded in episode.chunks] == steps[: len(episode.chunks)]
    assert list(episode.steps) == list(range(30))


def test_a_guarded_action_is_recorded_as_it_was_played(tmp_path):
    class Wild(ScriptedClient):
        def ask(self, observation, step, delay_steps, action_prefix, budget_ms) -> int:
            number = super().ask(observation, step, delay_steps, action_prefix, budget_ms)
            self.under_way[-1][1].chunk.actions[:, 5] = 9.0  # type: ignore[union-attr]
            if step == 8:
                self.under_way[-1][1].chunk.actions[:, 2] = np.nan  # type: ignore[union-attr]
            return number

    clock = Clock()
    robot = TimedRobot(clock, 40)
    with EpisodeRecorder(tmp_path) as recorder:
        client: Any = Wild(clock, lambda step: 0.02, rtc_max_delay=0)
        report = Daemon(robot, client, recorder, now=clock.now, sleep=clock.sleep).run(1, 0, ["left"])
    episode = read_episode(report.results[0].path)
    assert (episode.actions[episode.steps < 9][:, 5] == 1.0).all()
    assert report.guard_events["range"] > 10
    held = [step for step, command in enumerate(robot.commands) if command is None]
    assert held == [9, 10, 11, 12]  # until the chunk asked for at 12 is there
    assert report.guard_events["finite"] == 4
    assert "guard.finite" in {event.kind for event in episode.events}


def test_chunks_of_another_policy_than_the_episode_began_with_are_never_played(tmp_path):
    """The server was restarted with another bundle in the middle of an episode."""

    class Exchanged(ScriptedClient):
        def bundle(self, step: int) -> str:
            return "point@000000000000" if step < 8 else "other@111111111111"

    clock = Clock()
    robot = TimedRobot(clock, 200)
    with EpisodeRecorder(tmp_path) as recorder:
        client: Any = Exchanged(clock, lambda step: 0.02)
        report = Daemon(robot, client, recorder, now=clock.now, sleep=clock.sleep).run(1, 0, ["left"])
    result = report.results[0]
    assert result.outcome == "abort"
    assert "other@111111111111" in result.reason
    assert "point@000000000000" in result.reason
    assert report.refusals["other_bundle"] > 0
    played = [origin(command) for command in robot.commands if command is not None]
    assert max(anchor for anchor, _ in played) < 8  # type: ignore[misc]
    assert all(command is None for command in robot.commands[14:])


def test_without_a_server_the_run_ends_in_time_with_the_way_out(tmp_path):
    clock = Clock()

    class Nobody(ScriptedClient):
        def hello(self) -> dict[str, Any]:
            self.clock.time += 1.0
            raise ServerTimeout("no reply from ipc:///nowhere within 1 s")

    client: Any = Nobody(clock, None)
    with EpisodeRecorder(tmp_path) as recorder:
        daemon = Daemon(TimedRobot(clock, 10), client, recorder, now=clock.now, sleep=clock.sleep)
        with pytest.raises(ServerGone, match=r"10 s.*ipc:///nowhere.*flexor serve"):
            daemon.run(3, 0, ["left"])
    assert clock.time == pytest.approx(110.0, abs=1.5)


def test_a_server_that_is_still_warming_up_is_waited_for(tmp_path):
    clock = Clock()

    class Warming(ScriptedClient):
        def hello(self) -> dict[str, Any]:
            self.ready = self.clock.time > 103.0
            return super().hello()

    client: Any = Warming(clock, lambda step: 0.02)
    with EpisodeRecorder(tmp_path) as recorder:
        report = Daemon(TimedRobot(clock, 5), client, recorder, now=clock.now, sleep=clock.sleep).run(1, 0, ["left"])
    assert report.results[0].steps == 5


def test_an_episode_is_recorded_with_the_robot_s_conditions_and_its_own_sentence(tmp_path):
    clock = Clock()
    with EpisodeRecorder(tmp_path) as recorder:
        daemon = Daemon(
            ElsewherePoint(),
            ScriptedClient(clock, lambda step: 0.02),  # type: ignore[arg-type]
            recorder,
            now=clock.now,
            sleep=clock.sleep,
        )
        (result,) = daemon.run(1, 0, ["left"]).results
    meta = read_episode(result.path).meta
    assert meta.extra["shift"] == {"level": "low"}
    assert meta.prompt == "off you go to the left"


class OtherPoint(ElsewherePoint):
    """Can be asked for the right in the scene of the left."""

    def __init__(self) -> None:
        super().__init__()
        self._spec = dataclasses.replace(self._spec, alternatives={"left": ("right@left",)})

    def reset(self, seed: int, task: str) -> Status:
        return super().reset(seed, task.partition("@")[0])


def test_what_else_can_be_asked_for_in_a_scene_can_be_run(tmp_path):
    clock = Clock()
    with EpisodeRecorder(tmp_path) as recorder:
        client = ScriptedClient(clock, lambda step: 0.02)
        daemon = Daemon(OtherPoint(), client, recorder, now=clock.now, sleep=clock.sleep)  # type: ignore[arg-type]
        (result,) = daemon.run(1, 0, ["right@left"]).results
        with pytest.raises(FlexorError, match="has no task left@right; its tasks are left, right"):
            daemon.run(1, 0, ["left@right"])
    meta = read_episode(result.path).meta
    assert (meta.task, meta.prompt) == ("right@left", "off you go to the right")
