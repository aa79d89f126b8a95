"""A robot whose server tries adapters: slower then, without an alarm that would bound nothing, and never stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from point_world import PointPolicy
from scripted_client import Clock, ScriptedClient, TimedRobot

from flexor.runtime.driving.daemon import Daemon, DaemonSettings
from flexor.runtime.driving.guard import GuardSettings
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import Threshold

SCORING = Scoring.of(PointPolicy().describe(), "base", "sim:point", "real time, splice prefix")
CALIBRATION = Calibration(
    SCORING, 0.1, ("left",), tuple("abcdefghi"), {"ace_bits": Threshold(1.5)}, {}, "2026-01-01T00:00:00+00:00"
)


class FastClient(ScriptedClient):
    """Wants 1 m/s along x."""

    def poll(self, timeout_s):
        reply = super().poll(timeout_s)
        if reply is None or reply.chunk is None:
            return reply
        actions = reply.chunk.actions.copy()
        actions[:, 0] = 1.0
        return replace(reply, chunk=replace(reply.chunk, actions=actions))


def drive(root, scale: float, adapter: str, calibration: Calibration | None):
    clock = Clock()
    client, robot = FastClient(clock, lambda step: 0.02), TimedRobot(clock, 12)
    client.velocity_scale, client.adapter = scale, adapter
    settings = DaemonSettings(guard=GuardSettings(max_speed=0.8))
    with EpisodeRecorder(root) as recorder:
        daemon = Daemon(
            robot,
            client,  # type: ignore[arg-type]
            recorder,
            settings,
            calibration=calibration,
            now=clock.now,
            sleep=clock.sleep,
        )
        report = daemon.run(1, 0, ["left"])
    fastest = max(float(np.linalg.norm(command[:3])) for command in robot.commands if command is not None)
    return fastest * robot.spec.metres_per_unit * robot.spec.hz, read_episode(report.results[0].path)


def test_while_an_adapter_is_tried_the_arm_keeps_to_a_part_of_its_velocity_limit(tmp_path):
    usual, _ = drive(tmp_path / "usual", 1.0, "base", None)
    tried, episode = drive(tmp_path / "tried", 0.5, "3-0123456789ab", None)
    assert np.isclose(tried, 0.5 * usual)
    assert episode.meta.extra["velocity_scale"] == 0.5
    assert episode.meta.adapter == "3-0123456789ab"


def test_an_episode_with_an_adapter_that_the_calibration_is_not_of_is_played_and_says_raw(tmp_path):
    _, known = drive(tmp_path / "known", 1.0, "base", CALIBRATION)
    assert known.meta.extra["calibration"]["id"] == CALIBRATION.id
    _, other = drive(tmp_path / "other", 1.0, "3-0123456789ab", CALIBRATION)
    assert other.meta.extra["calibration"] == "raw"
    assert other.meta.extra["scoring"]["adapter"] == "3-0123456789ab"
