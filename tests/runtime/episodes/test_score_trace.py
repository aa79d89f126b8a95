"""Score traces read from real episode files, and calibrations made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from flexor.runtime.episodes.calibrator import calibrate
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.episodes.score_trace import OVERLAP, TIMER, ScoreTrace, read_traces
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import CalibrationError
from flexor.runtime.observation import ActionChunk, Provenance

SCORING = Scoring(
    "nano", "ab" * 32, "base", "fp32", 10, 1.0, 8, 0.03, 1, "sim:point", "lockstep, delay 0, splice prefix"
)
BY = Provenance("nano@abababababab", "base", "fake", "cpu", "fp32", 10, 0)


def record(
    root: Path,
    bits: Sequence[float],
    outcome: str = "success",
    label: str | None = None,
    task: str = "lift",
    scoring: Scoring | None = SCORING,
    shift: str = "none",
    failure_step: int | None = None,
    plans: Sequence[np.ndarray] = (),
    helped: bool = False,
) -> Path:
    """An episode whose chunk number i, of step 5 i, has bits[i]."""
    extra = {"shift": {"level": shift}, "scoring": None if scoring is None else asdict(scoring)}
    with EpisodeRecorder(root) as recorder:
        recorder.begin(EpisodeMeta("sim:point", task, task, 0, "nano@abababababab", "base", 20.0, (), extra))
        for step in range(5 * len(bits)):
            if step % 5 == 0:
                score = {"ace_bits": bits[step // 5], "gauss_nats": bits[step // 5] - 5, "accel": 0.1 + step}
                if plans:
                    recorder.chunk(step, ActionChunk(plans[step // 5], BY, {}, {}))
                recorder.event(step, "entropy", {**score, "calibration": "raw", "calibrated": {}})
            recorder.step(step, np.zeros(8, np.float32), np.zeros(7, np.float32), None, helped and step == 2)
        if failure_step is not None:
            recorder.event(failure_step, f"failure.{label}", {"recovered_at": None})
        return recorder.end(outcome, label, "sim")


def test_a_trace_holds_what_was_logged_step_by_step(tmp_path):
    record(tmp_path, [1.0, 2.0, 0.5], task="push")
    (trace,) = read_traces(tmp_path)
    assert (trace.task, trace.outcome, trace.hz, trace.length, trace.shift) == ("push", "success", 20.0, 15, "none")
    assert trace.tracks["ace_bits"].steps.tolist() == [0, 5, 10]
    assert trace.tracks["ace_bits"].values.tolist() == [1.0, 2.0, 0.5]
    assert trace.tracks["gauss_nats"].values.tolist() == [-4.0, -3.0, -4.5]
    assert trace.tracks[TIMER].values.tolist() == list(range(15))
    assert trace.scoring == SCORING
    assert OVERLAP not in trace.tracks  # no chunk was recorded


def test_the_decisive_step_is_that_of_the_event_that_explains_the_failure(tmp_path):
    record(tmp_path, [1.0] * 4, "failure", "grasp_slip", failure_step=7)
    record(tmp_path, [1.0] * 4, "failure", None)
    assert {trace.label: trace.decisive_step for trace in read_traces(tmp_path)} == {"grasp_slip": 7, None: 19}


def test_overlap_is_the_distance_of_both_plans_where_neither_was_bound(tmp_path):
    plans = [np.zeros((10, 7), np.float32) for _ in range(3)]
    plans[1][:2] = plans[0][5:7]  # the first two rows are those the chunk was asked to begin with
    plans[1][2:5, 0], plans[1][2:5, 1], plans[1][2:5, 6] = 3.0, 4.0, 9.0  # the gripper does not count
    plans[1][5:] = 0.5
    plans[2][:] = plans[1][5]  # goes on just as planned
    record(tmp_path, [1.0] * 3, plans=plans)
    track = read_traces(tmp_path)[0].tracks[OVERLAP]
    assert track.steps.tolist() == [5]
    assert track.values == pytest.approx([np.sqrt((3.0**2 + 4.0**2) / 3)])


def test_a_logged_score_that_is_not_finite_names_its_episode(tmp_path):
    path = record(tmp_path, [1.0, float("nan")])
    with pytest.raises(CalibrationError, match=f"episode {path.stem} is not finite at step 5"):
        read_traces(tmp_path)


def test_a_folder_without_episodes_says_how_to_record_some(tmp_path):
    with pytest.raises(CalibrationError, match="no finished episode"):
        read_traces(tmp_path)


@pytest.fixture
def good(tmp_path: Path) -> list[ScoreTrace]:
    for number in range(9):
        record(tmp_path, [0.5, 1.0 + number / 10, 0.7], task=("lift", "push")[number % 2])
    record(tmp_path, [2.9] * 3, "failure")
    return read_traces(tmp_path)


def test_a_calibration_is_made_of_the_maxima_of_the_successes(good: list[ScoreTrace]):
    found = calibrate(good, 0.1)
    assert found.thresholds["ace_bits"].tau == 1.8
    assert found.thresholds["gauss_nats"].tau == pytest.approx(-3.2)
    assert found.thresholds["accel"].tau == 10.1
    assert (found.tasks, len(found.episodes), found.scoring) == (("lift", "push"), 9, SCORING)
    assert calibrate(good, 0.2).thresholds["ace_bits"].tau == 1.7  # ceil(10 * 0.8) = 8


def test_episodes_that_do_not_belong_together_are_refused(good: list[ScoreTrace]):
    with pytest.raises(CalibrationError, match=r"9 of 10 episodes succeeded.*alpha 0.05 needs at least 19"):
        calibrate(good, 0.05)
    for change, why in (
        ({"scoring": replace(SCORING, hash="cd" * 32)}, "do not belong together: hash is"),
        ({"scoring": None}, "does not say how it was scored"),
        ({"shift": "medium"}, "was recorded at shift medium"),
        ({"tracks": {}}, "was not scored by ace_bits"),
    ):
        with pytest.raises(CalibrationError, match=why):
            calibrate([*good[:4], replace(good[4], **change), *good[5:]], 0.1)


def flexor(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flexor.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_the_command_writes_the_calibration_and_says_where(tmp_path, good):
    result = flexor("episodes", "calibrate", tmp_path, "--alpha", "0.2", "--json", tmp_path / "told.json")
    assert result.returncode == 0, result.stderr
    found = Calibration.load(tmp_path / "calibration.json")
    assert found.thresholds["ace_bits"].tau == 1.7
    assert f"calibration in {tmp_path}/calibration.json" in result.stdout
    assert json.loads((tmp_path / "told.json").read_text())["id"] == found.id


def test_a_run_that_cannot_be_calibrated_is_refused_before_anything_moves(tmp_path):
    for options, why in (
        (["--calibrate", "8"], "--calibrate 8 is too few for alpha 0.1; give 9 or more"),
        (["--calibration", tmp_path / "none.json"], "cannot be read"),
    ):
        result = flexor("run", "--log", tmp_path / "log", *options)
        assert (result.returncode, result.stdout) == (1, "")
        assert why in result.stderr
    assert not (tmp_path / "log").exists()


def test_a_success_in_which_somebody_helped_is_no_good_episode_of_the_policy(tmp_path):
    for number in range(9):
        record(tmp_path, [0.5 + 0.1 * number])
    record(tmp_path, [2.9], helped=True)
    traces = read_traces(tmp_path)
    assert [trace.good for trace in traces].count(True) == 9
    measured = calibrate(traces, 0.1)
    assert len(measured.episodes) == 9 and measured.thresholds["ace_bits"].tau == pytest.approx(1.3)
    with pytest.raises(CalibrationError, match="9 of 10 episodes succeeded without help"):
        calibrate(traces, 0.05)
