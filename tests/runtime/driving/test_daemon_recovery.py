"""The daemon against real server processes that die, come back, or are too slow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from point_server import PointServer
from point_world import PointRobot

from flexor.runtime.driving.control_loop import Live
from flexor.runtime.driving.daemon import Daemon, DaemonSettings, ServerGone
from flexor.runtime.driving.handshake import Mismatch, check_fit
from flexor.runtime.driving.run_report import RunReport
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.serving.client import PolicyClient

SETTINGS = DaemonSettings(hold_limit_s=0.6, reply_timeout_s=0.5, connect_timeout_s=30.0)


@pytest.fixture
def server() -> Iterator[PointServer]:
    """One address; each test starts what serves it."""
    server = PointServer()
    yield server
    server.close()


def run(
    server: PointServer,
    log: Path,
    robot: PointRobot,
    episodes: int,
    watch: Callable[[Live], None] = lambda live: None,
    settings: DaemonSettings = SETTINGS,
    report: RunReport | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> RunReport:
    with ExitStack() as stack:
        client = stack.enter_context(PolicyClient(server.address, settings.reply_timeout_s))
        recorder = stack.enter_context(EpisodeRecorder(log))
        daemon = Daemon(robot, client, recorder, settings, report=report, stopped=stopped, watch=watch)
        return daemon.run(episodes, 0, ["left", "right"])


def test_a_server_killed_in_mid_episode_aborts_it_on_disk_and_a_new_server_serves_the_next_one(server, tmp_path):
    server.start()
    server.wait_ready()
    robot = PointRobot(far=2.0)
    report = RunReport()
    held: list[bool] = []

    def kill(live: Live) -> None:
        if live.index == 0 and live.step == 7:
            server.kill()
        if live.index == 0:
            held[:] = [command is None for command in robot.commands]

    def restart() -> bool:
        if report.results and server.process is None:
            server.start()
        return False

    run(server, tmp_path, robot, 2, kill, report=report, stopped=restart)
    first, second = report.results
    assert (first.outcome, second.outcome) == ("abort", "success")
    assert "did not answer" in first.reason
    assert first.holds == sum(held) > 0
    assert all(held[held.index(True) :])  # held step by step to the end
    episode = read_episode(first.path)
    assert (episode.outcome, episode.meta.seed) == ("abort", 0)
    assert len(episode.steps) == first.steps > 7
    assert {"hold", "abort"} <= {event.kind for event in episode.events}
    assert read_episode(second.path).outcome == "success"


def test_a_server_that_is_gone_for_good_ends_the_run_with_a_clear_error_and_keeps_the_report(server, tmp_path):
    server.start()
    server.wait_ready()
    report = RunReport()

    def kill(live: Live) -> None:
        if live.step == 5:
            server.kill()

    settings = SETTINGS.model_copy(update={"connect_timeout_s": 1.0})
    with pytest.raises(ServerGone, match=r"no policy server is ready.*policy\.sock"):
        run(server, tmp_path, PointRobot(far=2.0), 3, kill, settings, report)
    assert [result.outcome for result in report.results] == ["abort"]
    assert read_episode(report.results[0].path).outcome == "abort"
    assert not list(tmp_path.glob("**/*.part"))


def test_a_server_slower_than_a_whole_chunk_never_gets_a_stale_action_played(server, tmp_path):
    """20 Hz and 10 actions: a reply after 0.7 s has no action left for the step at which it comes."""
    server.start(0.7)
    server.wait_ready()
    robot = PointRobot(far=2.0)
    settings = DaemonSettings(hold_limit_s=2.5, reply_timeout_s=2.0)
    report = run(server, tmp_path, robot, 1, settings=settings)
    result = report.results[0]
    assert result.outcome == "abort"
    assert "gave nothing playable" in result.reason
    assert "a chunk is good for 500 ms" in result.reason
    moved = [step for step, command in enumerate(robot.commands) if command is not None]
    assert moved == list(range(10))  # the first chunk, which was waited for before the arm moved
    assert report.stale >= 1
    assert report.holds >= 10
    episode = read_episode(result.path)
    assert np.abs(episode.actions[10:, :6]).max() == 0.0


def test_a_server_slower_than_a_replan_still_drives_the_arm_to_its_goal(server, tmp_path):
    server.start(0.12)
    server.wait_ready()
    report = run(server, tmp_path, PointRobot(far=2.0), 1)
    assert report.results[0].outcome == "success"


def test_the_report_tells_what_happened_under_the_common_names(server, tmp_path):
    server.start()
    server.wait_ready()
    told = run(server, tmp_path, PointRobot(far=2.0), 2).to_dict()
    assert (told["episodes"], told["successes"], told["success_rate"], told["aborted"]) == (2, 2, 1.0, 0)
    assert told["ci95"][0] < 1.0 == told["ci95"][1]
    assert 0 < told["p50_ms"] <= told["p95_ms"] <= told["p99_ms"]
    assert 1.0 <= told["entropy_bits_mean"] <= 2.0
    assert [row["seed"] for row in told["rows"]] == [0, 1]
    assert [row["task"] for row in told["rows"]] == ["left", "right"]


def test_a_policy_that_does_not_fit_the_robot_is_refused_with_every_difference_before_anything_moves(server, tmp_path):
    server.start()
    server.wait_ready()
    robot = PointRobot(hz=10.0)
    with pytest.raises(Mismatch, match=r"20 Hz.*10 Hz"):
        run(server, tmp_path, robot, 1)
    assert robot.commands == []
    hello = {"bundle": "b", "cameras": ["agentview", "roof"], "state_dim": 9, "action_dim": 8, "hz": 20.0}
    with pytest.raises(Mismatch) as refused:
        check_fit(hello, PointRobot().spec)
    for word in ("roof", "state_dim is 9", "action_dim is 8", "sim:point"):
        assert word in str(refused.value)


def test_a_policy_is_not_shown_other_frames_than_it_was_trained_on():
    spec = PointRobot().spec
    hello = {"bundle": "b", "cameras": list(spec.cameras), "state_dim": spec.state_dim, "action_dim": spec.action_dim}
    hello |= {"hz": spec.hz, "render": "fast"}
    check_fit(hello, spec)  # a robot that has one way alone
    check_fit(hello, dataclasses.replace(spec, conditions={"render": "fast"}))
    official = dataclasses.replace(spec, conditions={"render": "official"})
    check_fit(hello | {"render": None}, official)  # nobody knows
    with pytest.raises(Mismatch, match=r"trained on fast frames, the robot shows official ones \(--render fast\)"):
        check_fit(hello, official)
