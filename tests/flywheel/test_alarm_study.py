"""The alarm study on made-up traces whose answers are known, its picture, and its command."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from typer.testing import CliRunner

from flexor.cli.episodes import app
from flexor.flywheel.alarm_plot import best_rows, write_alarm_plot
from flexor.flywheel.alarm_study import AlarmStudy, Suspicion, alarms_of, equal_time_auroc, suspicion
from flexor.runtime.episodes.episode_schema import EpisodeMeta
from flexor.runtime.episodes.recorder import EpisodeRecorder
from flexor.runtime.episodes.score_trace import TIMER, ScoreTrace, Track
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import CalibrationError, Threshold
from flexor.runtime.inference.detectors import DETECTORS, Reference

SCORING = Scoring(
    "nano", "ab" * 32, "base", "fp32", 10, 1.0, 8, 0.03, 1, "sim:point", "lockstep, delay 0, splice prefix"
)
HZ, LIMIT, RISE = 20.0, 200, 30
UNIT = Reference(0.0, 1.0)


def trace(number: int, outcome: str, length: int, decisive: int | None = None, **scores: np.ndarray) -> ScoreTrace:
    """An episode with a chunk every 5 steps; scores: values by name, one a chunk."""
    steps = np.arange(0, length, 5)
    tracks = {name: Track(steps, np.asarray(values, float)[: len(steps)]) for name, values in scores.items()}
    tracks[TIMER] = Track(np.arange(length), np.arange(length, dtype=float))
    last = length - 1 if decisive is None else decisive
    return ScoreTrace(f"e{number}", "lift", outcome, None, HZ, length, last, tracks, SCORING)


def made_up(successes: int = 60, failures: int = 40, seed: int = 0) -> list[ScoreTrace]:
    """Successes of 40 to 100 steps. ACE of a failure rises far above all else at step RISE; accel says nothing."""
    generator = np.random.default_rng(seed)
    traces = []
    for number in range(successes + failures):
        fails = number >= successes
        length = LIMIT if fails else int(generator.integers(40, 101))
        chunks = -(-length // 5)
        ace, accel = generator.uniform(0, 1, chunks), generator.uniform(0, 1, chunks)
        if fails:
            ace[RISE // 5 :] += 5.0
        outcome = "failure" if fails else "success"
        traces.append(trace(number, outcome, length, 150 if fails else None, ace_bits=ace, accel=accel))
    return traces


def row(result: dict, score: str, detector: str = "latest") -> dict:
    (found,) = [row for row in result["rows"] if (row["score"], row["detector"]) == (score, detector)]
    return found


def test_suspicion_is_the_running_maximum_and_knows_when_it_passed_a_threshold():
    found = suspicion(Track(np.array([0, 5, 10, 15]), np.array([1.0, 3.0, 2.0, 4.0])), "latest", UNIT)
    assert found.highest.tolist() == [1.0, 3.0, 3.0, 4.0]
    assert found.by(np.array([0, 4, 5, 14, 15, 99])).tolist() == [1.0, 1.0, 3.0, 3.0, 4.0, 4.0]
    assert [found.alarm(limit) for limit in (0.5, 1.0, 2.9, 3.0, 4.0)] == [0, 5, 5, 15, None]
    assert Suspicion(np.array([5]), np.array([1.0])).by(4.0) == -np.inf


def test_auroc_at_equal_time_worked_out_by_hand():
    failures = [Suspicion(np.array([0, 10, 20]), np.array(values)) for values in ([1.0, 2.0, 9.0], [0.0, 5.0, 5.0])]
    successes = [Suspicion(np.array([0, 10]), np.array(values)) for values in ([1.0, 3.0], [0.5, 2.0])]
    # at step 12 the failures stand at 2 and 5: below 3, above 3, equal to 2, above 2; at step 19 likewise
    assert equal_time_auroc(failures, successes, np.array([12, 19])) == (0 + 1 + 0.5 + 1) / 4
    # at step 25 the first failure stands at 9
    assert equal_time_auroc(failures, successes, np.array([25, 19])) == (1 + 1 + 0.5 + 1) / 4


def test_a_score_that_rises_in_every_failure_finds_all_of_them_at_that_step():
    result = AlarmStudy(made_up(), 0.1, repeats=40, seed=0).run()
    assert (result["successes"], result["failures"], result["left_out"]) == (60, 40, 0)
    ace = row(result, "ace_bits")
    assert (ace["tpr"], ace["tpr_ci95"], ace["early"], ace["tpr_in_time"]) == (1.0, [1.0, 1.0], 1.0, 1.0)
    assert 0.03 <= ace["fpr"] <= 0.15
    assert ace["auroc_equal_time"] > 0.99
    assert ace["lead_s"][1:] == [(150 - RISE) / HZ] * 2  # a few draws raise a false alarm in a failure before it
    by_then = dict(zip(np.round(result["curve_s"], 3).tolist(), ace["detected"], strict=True))
    assert by_then[RISE / HZ - 0.25] < 0.2  # nothing but false alarms yet
    assert by_then[RISE / HZ] == 1.0


def test_a_timer_finds_every_failure_but_none_in_time_and_means_nothing_at_equal_time():
    result = AlarmStudy(made_up(), 0.1, repeats=40, seed=0).run()
    timer = row(result, TIMER)
    assert (timer["tpr"], timer["tpr_in_time"], timer["auroc_equal_time"]) == (1.0, 0.0, 0.5)
    assert (timer["ahead_s"], timer["fpr_in_time"]) == (None, 0.0)
    assert 0.03 <= timer["fpr"] <= 0.15
    latest, earliest = timer["lead_s"][0], timer["lead_s"][2]
    assert (150 - 101) / HZ <= latest <= earliest <= (150 - 80) / HZ  # it tells when nine of ten successes are over
    ahead = row(result, "ace_bits")["ahead_s"]
    assert ahead[1] == pytest.approx(120 / HZ - timer["lead_s"][1], abs=5 / HZ)


def test_a_score_that_says_nothing_is_shown_to_say_nothing():
    """Taken over whole episodes it seems to: a failure lasts longer, so its maximum is larger."""
    result = AlarmStudy(made_up(200, 100, seed=3), 0.1, repeats=30, seed=1).run()
    accel = row(result, "accel")
    low, high = accel["auroc_equal_time_ci95"]
    assert low < 0.5 < high
    assert accel["tpr_in_time"] == pytest.approx(0.1, abs=0.07)
    assert accel["tpr"] > 1.5 * accel["tpr_in_time"]


def test_false_alarms_on_the_tested_half_are_as_many_as_alpha_for_every_detector():
    result = AlarmStudy(made_up(300, 4, seed=5), 0.1, repeats=40, seed=2).run()
    for found in result["rows"]:
        assert found["fpr"] == pytest.approx(0.1, abs=0.03), (found["score"], found["detector"])
        if found["score"] != TIMER:
            assert found["fpr_in_time"] == pytest.approx(0.1, abs=0.03), (found["score"], found["detector"])


def test_the_same_seed_gives_the_same_numbers():
    traces = made_up(30, 10)
    assert AlarmStudy(traces, 0.1, 10, 4).run() == AlarmStudy(traces, 0.1, 10, 4).run()
    assert AlarmStudy(traces, 0.1, 10, 4).run() != AlarmStudy(traces, 0.1, 10, 5).run()


def test_only_scores_that_every_episode_has_are_studied_and_other_outcomes_are_left_out():
    traces = [*made_up(20, 5), trace(99, "abort", 20, ace_bits=np.ones(4))]
    study = AlarmStudy(traces, 0.1, 2, 0)
    assert (study.scores, study.left_out) == (("ace_bits", "accel"), 1)
    traces[3] = replace(traces[3], tracks={name: traces[3].tracks[name] for name in ("accel", TIMER)})
    assert AlarmStudy(traces, 0.1, 2, 0).scores == ("accel",)


@pytest.mark.parametrize(("successes", "failures"), [(17, 5), (60, 0)])
def test_too_few_episodes_are_refused(successes, failures):
    with pytest.raises(CalibrationError, match=f"{successes} successes and {failures} failures"):
        AlarmStudy(made_up(successes, failures), 0.1, 2, 0)


def test_the_alarms_of_a_calibration_are_counted_at_its_own_threshold():
    ids = tuple(f"c{number}" for number in range(9))
    calibration = Calibration(SCORING, 0.1, ("lift",), ids, {"ace_bits": Threshold(2.0)}, {}, "")
    traces = [
        trace(0, "success", 20, ace_bits=np.array([1.0, 2.0, 1.0, 0.0])),  # at tau: no alarm
        trace(1, "success", 20, ace_bits=np.array([1.0, 2.1, 1.0, 0.0])),
        trace(2, "failure", 40, 30, ace_bits=np.array([1.0, 1.0, 2.5, 0, 0, 0, 0, 0])),  # at step 10, 1 s ahead
        trace(3, "failure", 40, 30, ace_bits=np.array([1.0, 1.0, 1.0, 0, 0, 0, 0, 2.5])),  # at step 35: too late
        trace(4, "failure", 40, 30, ace_bits=np.ones(8)),
    ]
    (found,) = alarms_of(calibration, traces)
    assert (found["score"], found["tau"]) == ("ace_bits", 2.0)
    assert (found["tpr"], found["fpr"], found["lead_s"]) == (2 / 3, 0.5, [1.0, 1.0, 1.0])
    assert found["tpr_ci95"] == pytest.approx([0.2077, 0.9385], abs=1e-4)  # Wilson, 2 of 3
    other = replace(calibration, scoring=replace(SCORING, hash="cd" * 32))
    with pytest.raises(CalibrationError, match="hash is"):
        alarms_of(other, traces)
    with pytest.raises(CalibrationError, match="0 failures"):
        alarms_of(calibration, traces[:2])


def test_the_best_row_of_a_score_is_the_one_that_finds_most_in_time():
    rows = [
        {"score": score, "detector": detector, "tpr_in_time": share}
        for score, detector, share in (("a", "x", 0.2), ("b", "x", 0.9), ("a", "y", 0.4), ("a", "z", 0.4))
    ]
    assert [(found["score"], found["detector"]) for found in best_rows(rows)] == [("a", "y"), ("b", "x")]


def test_the_picture_is_a_small_png(tmp_path):
    traces = made_up(30, 20)
    result = AlarmStudy(traces, 0.1, 5, 0).run()
    write_alarm_plot(traces, result, "ace_bits", tmp_path / "new" / "alarms.png")
    data = (tmp_path / "new" / "alarms.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert 10_000 < len(data) < 150_000


def record(recorder: EpisodeRecorder, number: int, fails: bool) -> None:
    """60 steps of a success, 200 of a failure that is in doubt from step 30 on."""
    extra = {"scoring": asdict(SCORING)}
    recorder.begin(EpisodeMeta("sim:point", "lift", "lift", number, "nano@abababababab", "base", HZ, (), extra))
    for step in range(LIMIT if fails else 60):
        if step % 5 == 0:
            bits = 2.5 if fails and step >= RISE else (number * 7 + step) % 11 / 10
            recorder.event(step, "entropy", {"ace_bits": bits, "calibration": "raw", "calibrated": {}})
        recorder.step(step, np.zeros(8, np.float32), np.zeros(7, np.float32))
    recorder.end("failure" if fails else "success", None, "sim")


def test_the_command_tells_of_recorded_episodes_in_tables_json_and_a_picture(tmp_path):
    with EpisodeRecorder(tmp_path) as recorder:
        for number in range(24):
            record(recorder, number, number >= 20)
    told, picture, calibration = tmp_path / "told.json", tmp_path / "alarms.png", tmp_path / "calibration.json"
    assert CliRunner().invoke(app, ["calibrate", str(tmp_path)]).exit_code == 0
    options = ["--repeats", "3", "--json", str(told), "--plot", str(picture), "--calibration", str(calibration)]
    result = CliRunner().invoke(app, ["alarms", str(tmp_path), *options])
    assert result.exit_code == 0, result.exception
    written = json.loads(told.read_text())
    assert (written["successes"], written["failures"], written["calibration"]["alpha"]) == (20, 4, 0.1)
    assert row(written, "ace_bits")["tpr_in_time"] == 1.0
    assert written["calibration"]["rows"][0]["tpr"] == 1.0
    assert written["calibration"]["rows"][0]["lead_s"] == [(LIMIT - 1 - RISE) / HZ] * 3
    assert picture.read_bytes()[:4] == b"\x89PNG"
    for words in ("whole episodes: 4 failures, 20 successes", "in time", "alarms of calibration"):
        assert words in result.output


def test_the_command_needs_recorded_episodes(tmp_path):
    result = CliRunner().invoke(app, ["alarms", str(tmp_path)])
    assert isinstance(result.exception, CalibrationError)
    assert "no finished episode" in str(result.exception)


def test_every_detector_is_in_the_table(tmp_path):
    told = json.loads(json.dumps(AlarmStudy(made_up(20, 5), 0.1, 2, 0).run()))
    assert {row["detector"] for row in told["rows"] if row["score"] == "ace_bits"} == set(DETECTORS)
