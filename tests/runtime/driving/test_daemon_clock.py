"""The wall clock is set back while an episode is played: rate, budgets and deadlines are the monotonic clock's."""

from __future__ import annotations

import tempfile
import time

from point_world import PointPolicy, PointRobot

from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.server import PolicyServer

SETTINGS = DaemonSettings(hold_limit_s=20.0, reply_timeout_s=20.0, connect_timeout_s=30.0)


def test_an_episode_does_not_notice_a_wall_clock_that_jumps(tmp_path, monkeypatch):
    began = time.time_ns()
    asked = 0

    def jumping_ns() -> int:
        """Back by a day each time that anybody asks, and every fifth time a year ahead."""
        nonlocal asked
        asked += 1
        return began - asked * 86_400 * 10**9 + (asked % 5 == 0) * 365 * 86_400 * 10**9

    with tempfile.TemporaryDirectory(prefix="fx") as folder, monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", jumping_ns)
        patched.setattr(time, "time", lambda: jumping_ns() / 1e9)
        address = f"ipc://{folder}/policy.sock"
        with PolicyServer(PointPolicy(), address) as server:
            server.wait_ready(30.0)
            with PolicyClient(address, 20.0) as client, EpisodeRecorder(tmp_path) as recorder:
                report = Daemon(PointRobot(), client, recorder, SETTINGS).run(2, 0, ["left", "right"])
        assert asked >= 2  # the name of each episode has a date

    assert [result.outcome for result in report.results] == ["success", "success"]
    assert report.refusals["expired"] == 0
    assert all(0 < latency_ms < 3_600_000 for latency_ms in report.latencies_ms)
    for result in report.results:
        episode = read_episode(result.path)
        assert len(episode.steps) == result.steps
        assert 0 < episode.duration_s < 3600  # seconds, by a clock that jumps by days
