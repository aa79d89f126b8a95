"""Scores as an episode logs them, and the alarm: by the monitor alone, and through the daemon that records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from point_world import PointPolicy
from scripted_client import Clock, ScriptedClient, TimedRobot

from flexor.runtime.driving.daemon import Daemon
from flexor.runtime.driving.score_monitor import ScoreMonitor
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.episodes.score_trace import ScoreTrace
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import CalibrationError, Threshold

SCORING = Scoring.of(PointPolicy().describe(), "base", "sim:point", "real time, splice prefix")
CALIBRATION = Calibration(
    SCORING,
    0.1,
    ("left",),
    tuple(f"episode-{number}" for number in range(9)),
    {"ace_bits": Threshold(1.5), "accel": Threshold(0.5), "gauss_nats": Threshold(-4.0, 2.0)},
    {},
    "2026-01-01T00:00:00+00:00",
)


def test_without_a_calibration_scores_are_logged_raw_and_no_alarm_is_raised():
    events = []
    monitor = ScoreMonitor(None, lambda *event: events.append(event))
    monitor.note(5, {"ace_bits": 2.9, "gauss_nats": 1.0}, 10)
    assert events == [(5, "entropy", {"ace_bits": 2.9, "gauss_nats": 1.0, "calibration": "raw", "calibrated": {}})]
    assert (monitor.bits, monitor.calibrated_max, monitor.alarm_step) == ([2.9], None, None)


def test_the_first_calibrated_score_above_two_raises_the_alarm_and_no_later_one():
    events = []
    monitor = ScoreMonitor(CALIBRATION, lambda *event: events.append(event))
    for scored, bits, step in ((0, 1.5, 4), (4, 1.6, 9), (8, 2.7, 14)):  # 1.5 is tau: not above it
        monitor.note(scored, {"ace_bits": bits, "gauss_nats": -2.0}, step)
    kinds = [kind for _, kind, _ in events]
    assert kinds == ["entropy", "entropy", "alarm", "entropy"]
    step, _, told = events[2]
    assert step == monitor.alarm_step == 9  # when it became known; scored_step says what was scored
    assert told == {"score": "ace_bits", "raw": 1.6, "calibrated": pytest.approx(2 * 1.6 / 1.5), "scored_step": 4}
    assert events[1][2]["calibrated"] == pytest.approx({"ace_bits": 2 * 1.6 / 1.5, "gauss_nats": 3.0})
    assert {told["calibration"] for _, kind, told in events if kind == "entropy"} == {CALIBRATION.id}
    assert monitor.calibrated_max == pytest.approx(2 * 2.7 / 1.5)


def test_another_score_above_two_is_logged_but_only_the_primary_one_raises_the_alarm():
    monitor = ScoreMonitor(CALIBRATION, lambda *event: None)
    monitor.note(0, {"accel": 9.0}, 0)
    assert (monitor.alarm_step, monitor.calibrated_max) == (None, None)
    with pytest.raises(CalibrationError, match="cannot be calibrated"):
        monitor.note(5, {"ace_bits": np.nan}, 5)


class ScoringClient(ScriptedClient):
    """Every reply brings accel of its own chunk, and ACE of the one before: 1 bit, and 2 bits of step 8 on."""

    scored: int | None = None

    def poll(self, timeout_s):
        reply = super().poll(timeout_s)
        if reply is None or reply.chunk is None:
            return reply
        scores, scored = {"accel": 0.1 + reply.step / 100}, self.scored
        if scored is not None:
            scores |= {"ace_bits": 2.0 if scored >= 8 else 1.0, "gauss_nats": -5.0}
        self.scored = reply.step
        return replace(reply, chunk=replace(reply.chunk, scores=scores), scored_step=scored)


def drive(root, calibration, tasks=("left",)):
    clock = Clock()
    client, robot = ScoringClient(clock, lambda step: 0.02), TimedRobot(clock, 30)
    with EpisodeRecorder(root) as recorder:
        daemon = Daemon(
            robot,
            client,  # type: ignore[arg-type]
            recorder,
            calibration=calibration,
            now=clock.now,
            sleep=clock.sleep,
        )
        return daemon.run(1, 0, tasks)


def test_an_episode_says_raw_and_calibrated_for_every_chunk_and_where_the_alarm_was(tmp_path):
    report = drive(tmp_path, CALIBRATION)
    told = report.to_dict()
    assert (told["calibration"], told["pre_fail"]) == (CALIBRATION.id, 1)
    episode = read_episode(report.results[0].path)
    assert episode.meta.extra["calibration"]["id"] == CALIBRATION.id
    assert episode.meta.extra["calibration"]["thresholds"]["ace_bits"] == {"tau": 1.5, "sigma": None}
    alarm = next(event for event in episode.events if event.kind == "alarm")
    assert alarm.data["scored_step"] == 8
    assert 8 < alarm.step == report.results[0].alarm_step  # known with the next reply
    by_step: dict[int, dict] = {}
    for event in episode.events:
        if event.kind == "entropy":
            by_step.setdefault(event.step, {}).update(event.data["calibrated"])
    assert by_step[8] == pytest.approx({"accel": 2 * 0.18 / 0.5, "ace_bits": 2 * 2.0 / 1.5, "gauss_nats": 1.5})
    row = EpisodeIndex(tmp_path).episodes()[0]
    assert row.alarm_step == alarm.step
    assert row.calibrated_max == report.results[0].calibrated_max == pytest.approx(2 * 2.0 / 1.5)
    trace = ScoreTrace.of(episode)  # the scores of a chunk meet at its own step, whenever they came
    assert trace.tracks["ace_bits"].values.tolist() == [1.0, 1.0] + [2.0] * (len(trace.tracks["ace_bits"].steps) - 2)
    assert trace.tracks["accel"].steps.tolist() == [chunk.step for chunk in episode.chunks]
    assert trace.scoring == SCORING


def test_without_a_calibration_the_episode_and_the_report_say_so(tmp_path):
    report = drive(tmp_path, None)
    assert (report.to_dict()["calibration"], report.to_dict()["pre_fail"]) == ("raw", 0)
    episode = read_episode(report.results[0].path)
    assert episode.meta.extra["calibration"] == "raw"
    assert {event.data["calibration"] for event in episode.events if event.kind == "entropy"} == {"raw"}
    row = EpisodeIndex(tmp_path).episodes()[0]
    assert (row.calibrated_max, row.alarm_step, row.entropy_bits_max) == (None, None, 2.0)


def test_a_calibration_of_another_policy_or_without_the_task_moves_nothing(tmp_path):
    other = replace(CALIBRATION, scoring=replace(SCORING, hash="f" * 64))
    with pytest.raises(CalibrationError, match="hash is"):
        drive(tmp_path, other)
    with pytest.raises(CalibrationError, match="no episode of right"):
        drive(tmp_path, CALIBRATION, ("left", "right"))
    assert list(tmp_path.glob("episodes/*")) == []
