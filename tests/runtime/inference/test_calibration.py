"""A calibration: what it keeps, what it refuses to be used on, and what becomes of its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import CalibrationError, Threshold
from flexor.runtime.inference.policy import Policy

SCORING = Scoring(
    "nano", "ab" * 32, "base", "fp32", 10, 1.0, 8, 0.03, 1, "sim:point", "lockstep, delay 0, splice prefix"
)
IDS = [f"episode-{number}" for number in range(9)]
MAXIMA = {
    "ace_bits": [1.0, 1.5, 1.2, 1.9, 1.1, 1.7, 1.3, 1.4, 1.6],
    "gauss_nats": [-9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0],
    "accel": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
}


@pytest.fixture
def calibration() -> Calibration:
    return Calibration.measure(SCORING, MAXIMA, 0.1, ["lift", "push", "lift"], IDS)


def test_it_holds_a_threshold_of_each_score_and_says_what_of(calibration: Calibration) -> None:
    assert calibration.tasks == ("lift", "push")
    assert calibration.episodes == tuple(IDS)
    assert {score: found.tau for score, found in calibration.thresholds.items()} == {
        "ace_bits": 1.9,
        "gauss_nats": -1.0,
        "accel": 0.9,
    }
    calibrated = calibration.calibrated({"ace_bits": 0.95, "accel": 1.8, "overlap": 7.0})
    assert calibrated == pytest.approx({"ace_bits": 1.0, "accel": 4.0})


def test_a_file_gives_back_the_very_same_calibration(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "new" / "calibration.json"
    calibration.save(path)
    again = Calibration.load(path)
    assert again == calibration
    assert again.id == calibration.id
    assert [entry.name for entry in path.parent.iterdir()] == ["calibration.json"]
    replace(calibration, alpha=0.2).save(path)  # measured anew
    assert Calibration.load(path).alpha == 0.2
    assert Calibration.load(path).id != calibration.id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hash", "cd" * 32),
        ("adapter", "kitchen-3"),
        ("precision", "bf16"),
        ("flow_steps", 5),
        ("noise_scale", 0.5),
        ("samples", 16),
        ("cell", 0.06),
        ("estimator", 2),
        ("robot", "sim:other"),
        ("driving", "real time, splice prefix"),
    ],
)
def test_what_it_was_not_measured_on_is_refused_by_name(calibration: Calibration, field: str, value: object) -> None:
    calibration.check(SCORING)
    with pytest.raises(CalibrationError, match=f"{field} is {value!r}, not"):
        calibration.check(replace(SCORING, **{field: value}))


def test_tasks_that_it_has_not_seen_are_refused(calibration: Calibration) -> None:
    calibration.check_tasks(["push"])
    with pytest.raises(CalibrationError, match="no episode of fold, only of lift, push"):
        calibration.check_tasks(["push", "fold"])


def test_a_policy_says_what_its_scores_depend_on(policy: Policy) -> None:
    scoring = Scoring.of(policy.describe(), "base", "sim:point", "real time, splice replan")
    assert (scoring.hash, scoring.precision) == (policy.bundle.hash, "fp32")
    assert (scoring.samples, scoring.cell, scoring.estimator) == (8, 0.03, 1)
    silent = {key: value for key, value in policy.describe().items() if key != "entropy"}
    with pytest.raises(CalibrationError, match="does not say how it scores"):
        Scoring.of(silent, "base", "sim:point", "real time, splice replan")


def test_a_degenerate_score_beside_the_primary_one_is_left_out_and_told() -> None:
    found = Calibration.measure(SCORING, {**MAXIMA, "gauss_nats": [-3.0] * 9}, 0.1, ["lift"], IDS)
    assert set(found.thresholds) == {"ace_bits", "accel"}
    assert "its scale is 0" in found.refused["gauss_nats"]


@pytest.mark.parametrize(
    ("maxima", "why"),
    [
        ({"accel": MAXIMA["accel"]}, "hold no score ace_bits"),
        ({"ace_bits": [0.0] * 9}, "never differ"),
        ({"ace_bits": [3.0] * 9}, "at the ceiling"),
        ({"ace_bits": [1.0] * 8}, "9 episodes have maxima of {'ace_bits': 8}"),
    ],
)
def test_without_a_threshold_of_the_primary_score_there_is_no_calibration(maxima, why) -> None:
    with pytest.raises(CalibrationError, match=why):
        Calibration.measure(SCORING, maxima, 0.1, ["lift"], IDS)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        Calibration.load(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"schema_version": 1, "alp')
    with pytest.raises(CalibrationError, match="is not JSON"):
        Calibration.load(tmp_path / "torn.json")


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"alpha": None},
        {"more": 1},
        {"primary": "accel"},
        {"thresholds": {}},
        {"thresholds": {"ace_bits": {"tau": 0.0, "sigma": None}}},
        {"thresholds": {"ace_bits": {"tau": float("nan"), "sigma": None}}},
        {"thresholds": {"ace_bits": {"tau": 1.0, "sigma": 1.0}}},
        {"thresholds": {"ace_bits": {"tau": "1.0", "sigma": None}}},
        {"thresholds": {"ace_bits": {"tau": 1.0, "sigma": None}, "gauss_nats": {"tau": -1.0, "sigma": 0.0}}},
        {"thresholds": {"ace_bits": {"tau": 1.0, "sigma": None}, "mood": {"tau": 1.0, "sigma": None}}},
        {"scoring": {"bundle": "nano"}},
    ],
)
def test_a_file_that_was_tampered_with_is_refused(calibration: Calibration, tmp_path: Path, change) -> None:
    path = tmp_path / "calibration.json"
    calibration.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CalibrationError, match=f"calibration {path} cannot be used"):
        Calibration.load(path)


def test_a_file_that_cannot_be_written_says_so_and_leaves_the_old_one(calibration: Calibration, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match="cannot write the calibration"):
        calibration.save(tmp_path / "file" / "calibration.json")


def test_thresholds_read_back_are_numbers_to_the_last_bit(tmp_path: Path) -> None:
    third = Calibration.measure(SCORING, {"ace_bits": [0.1 * 3 + number / 7 for number in range(9)]}, 0.1, ["a"], IDS)
    third.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json").thresholds["ace_bits"] == Threshold(0.1 * 3 + 8 / 7)
