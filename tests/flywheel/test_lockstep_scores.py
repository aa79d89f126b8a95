"""Scores of evaluated episodes: raw without a calibration, calibrated and with an alarm once there is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from point_world import PointPolicy, PointRobot, open_point

from flexor.flywheel.evaluate import evaluate
from flexor.flywheel.lockstep import Delay, Lockstep, Manner
from flexor.runtime.episodes.calibrator import calibrate
from flexor.runtime.episodes.episode import read_episode
from flexor.runtime.episodes.episode_files import finished_files
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.episodes.score_trace import read_traces
from flexor.runtime.inference.calibration import Calibration
from flexor.runtime.inference.conformal import CalibrationError, Threshold


def open_quiet_policy(bundle: str) -> PointPolicy:
    return PointPolicy()


class Unsure(PointPolicy):
    """As sure as ever until the third chunk, then in 2.8 bits of doubt."""

    chunks = 0

    def surprise(self, noise_seed: int) -> dict[str, float]:
        self.chunks += 1
        return {"ace_bits": 1.0 if self.chunks < 3 else 2.8, "gauss_nats": -3.0}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> tuple[dict, Calibration]:
    root = tmp_path_factory.mktemp("good")
    result = evaluate("point", "sim:point", [], 10, 0, 1, root, make_robot=open_point, make_policy=open_quiet_policy)
    return result, calibrate(read_traces(root), 0.1)


def test_a_policy_is_told_how_many_of_its_actions_are_played_for_they_are_what_is_scored():
    policy = PointPolicy()
    Lockstep(PointRobot(), policy, None, entropy=False)
    assert policy.executed == policy.describe()["replan"]
    Lockstep(PointRobot(), policy, None, entropy=False, manner=Manner(replan=3))
    assert policy.executed == 3


def test_episodes_of_eval_are_what_a_calibration_is_made_of(evaluated):
    result, calibration = evaluated
    assert result["calibration"] == "raw"
    assert {row["alarm_step"] for row in result["rows"]} == {row["calibrated_max"] for row in result["rows"]} == {None}
    assert calibration.thresholds == {"ace_bits": Threshold(2.0), "accel": Threshold(0.1)}
    assert set(calibration.refused) == {"gauss_nats"}  # the point's policy always says -3
    assert calibration.tasks == ("left", "right")


def test_the_same_episodes_with_the_calibration_come_up_to_two_and_raise_no_alarm(evaluated):
    result, calibration = evaluated
    again = evaluate(
        "point",
        "sim:point",
        [],
        10,
        0,
        1,
        calibration=calibration,
        make_robot=open_point,
        make_policy=open_quiet_policy,
    )
    assert again["calibration"] == calibration.id
    assert max(row["calibrated_max"] for row in again["rows"]) == 2.0
    assert {row["alarm_step"] for row in again["rows"]} == {None}
    assert [row["steps"] for row in again["rows"]] == [row["steps"] for row in result["rows"]]


def test_doubt_above_the_threshold_is_an_alarm_at_its_step_in_file_and_index(evaluated, tmp_path):
    _, calibration = evaluated
    player = Lockstep(PointRobot(max_steps=30, far=2.0), Unsure(), EpisodeRecorder(tmp_path), True, None, calibration)
    result = player.play("left", 0)
    assert (result.calibrated_max, result.alarm_step) == (2.8, 10)
    (file,) = finished_files(tmp_path)
    alarms = [(event.step, event.data["calibrated"]) for event in read_episode(file).events if event.kind == "alarm"]
    assert alarms == [(10, 2.8)]
    row = EpisodeIndex(tmp_path).episodes()[0]
    assert (row.calibrated_max, row.alarm_step) == (2.8, 10)


def test_a_calibration_of_other_driving_or_without_the_task_is_refused_before_the_robot_moves(evaluated):
    _, calibration = evaluated
    robot = PointRobot()
    with pytest.raises(CalibrationError, match="driving is 'lockstep, delay 2, splice prefix'"):
        Lockstep(robot, PointPolicy(), None, True, Delay(2), calibration)
    with pytest.raises(CalibrationError, match="no episode of right"):
        Lockstep(robot, PointPolicy(), None, True, None, replace(calibration, tasks=("left",))).play("right", 0)
    assert robot.commands == []
