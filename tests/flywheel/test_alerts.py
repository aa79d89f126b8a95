"""Alerts: each rule on readings that just do and just do not raise it, and who hears of what has begun."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_run import record_run

from flexor.errors import FlexorError
from flexor.flywheel.alerts import GIB, RULES, Alerts, AlertSettings, Reading
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.settings import SettingsError, load_settings

SETTINGS = AlertSettings(window=10, min_episodes=4, collapse=3)


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> EpisodeRow:
    """A success without help, calibrated, no alarm."""
    return EpisodeIndex(record_run(tmp_path_factory.mktemp("run")).root / "log").episodes()[0]


def outcomes(row: EpisodeRow, told: str) -> Reading:
    """Episodes by a letter each: success, failure, abort, and u for a success with an alarm."""
    kinds = {"s": ("success", None), "f": ("failure", None), "a": ("abort", None), "u": ("success", 3)}
    return Reading([replace(row, outcome=kinds[letter][0], alarm_step=kinds[letter][1]) for letter in told])


def losses(*values: float) -> Reading:
    return Reading(curve=[{"step": 10 * at, "train/loss": value} for at, value in enumerate(values)])


@pytest.mark.parametrize(
    ("rule", "told", "raised"),
    [
        ("collapse", "sssfff", True),
        ("collapse", "sssfafaf", True),  # aborts are no outcome
        ("collapse", "fffsff", False),
        ("collapse", "ff", False),
        ("success_low", "sssssssssf", False),  # 9 of 10 is the threshold
        ("success_low", "ssssssssff", True),
        ("success_low", "ffssssssssss", False),  # the failures are out of the window
        ("success_low", "fff", False),
        ("alarm_rate", "uuss", False),
        ("alarm_rate", "uuus", True),
        ("alarm_rate", "uuu", False),
    ],
)
def test_a_rule_of_episodes(row: EpisodeRow, rule: str, told: str, raised: bool):
    assert (RULES[rule](outcomes(row, told), SETTINGS) is not None) is raised


def test_episodes_that_were_not_scored_raise_no_alarm_rate(row: EpisodeRow):
    raw = [replace(one, calibrated_max=None) for one in outcomes(row, "uuuuuu").rows]
    assert RULES["alarm_rate"](Reading(raw), SETTINGS) is None


def test_a_loss_is_held_against_its_running_mean():
    rule, calm = RULES["loss_spike"], [1.0] * 12
    assert rule(losses(*calm, 9.9), SETTINGS) is None
    spike = rule(losses(*calm, 10.1), SETTINGS)
    assert spike is not None and spike.numbers == {"step": 120, "loss": 10.1, "mean": pytest.approx(1.0)}
    assert rule(losses(*calm, 10.1, *[1.0] * 19), SETTINGS) is not None
    assert rule(losses(*calm, 10.1, *[1.0] * 20), SETTINGS) is None, "over by now"
    assert rule(losses(100.0, 1.0, 50.0), SETTINGS) is None, "too few to know a mean"
    nan = rule(losses(1.0, math.nan, 1.0), SETTINGS)
    assert nan is not None and nan.numbers["loss"] is None
    assert json.dumps(nan.numbers, allow_nan=False)


def test_a_disk_is_held_against_its_limit():
    rule = RULES["disk_low"]
    assert rule(Reading(disk_free=2 * GIB), SETTINGS) is None
    assert rule(Reading(disk_free=2 * GIB - 1), SETTINGS) is not None
    assert rule(Reading(disk_free=None), SETTINGS) is None


def test_an_alert_is_told_once_until_it_has_ended(row: EpisodeRow, tmp_path: Path):
    log, heard = tmp_path / "new" / "alerts.jsonl", tmp_path / "heard"
    program = f"import sys; open({str(heard)!r}, 'a').write(sys.stdin.read() + '|' + sys.argv[1] + chr(10))"
    command = (sys.executable, "-c", program, "$(touch here); 'as it is'")
    alerts = Alerts(SETTINGS.model_copy(update={"command": command, "success_below": 0.0}), log)
    for told in ("ss", "fff", "ffff", "fffs", "fffsfff"):
        alerts.look(outcomes(row, told))
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["event"] for entry in logged] == ["alert", "alert.ended", "alert"]
    logged = [entry for entry in logged if entry["event"] == "alert"]
    assert [(entry["alert"], entry["episodes"]) for entry in logged] == [("collapse", 3)] * 2
    assert list(alerts.active) == ["collapse"]
    lines = heard.read_text().splitlines()
    assert [line.rpartition("|")[2] for line in lines] == [command[-1]] * 2, "no shell has touched it"
    assert [json.loads(line.rpartition("|")[0]) for line in lines] == logged


def test_another_process_does_not_tell_again_what_still_stands(row: EpisodeRow, tmp_path: Path):
    log, settings = tmp_path / "alerts.jsonl", SETTINGS.model_copy(update={"success_below": 0.0})
    (first,) = Alerts(settings, log).look(outcomes(row, "fff"))
    with log.open("a") as stream:
        stream.write('{"at": "2026-03-01", "event": "al')  # the process was killed
    again = Alerts(settings, log)
    assert again.look(outcomes(row, "ffff")) == []
    assert again.active["collapse"]["at"] == first["at"]


def test_an_alert_that_ended_while_nobody_looked_ends_and_may_begin_again(row: EpisodeRow, tmp_path: Path):
    log, settings = tmp_path / "alerts.jsonl", SETTINGS.model_copy(update={"success_below": 0.0})
    Alerts(settings, log).look(outcomes(row, "fff"))
    assert Alerts(settings, log).look(outcomes(row, "fffs")) == []
    assert [entry["alert"] for entry in Alerts(settings, log).look(outcomes(row, "fffsfff"))] == ["collapse"]
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["alert", "alert.ended", "alert"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("no-such-program",), "cannot be run"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "took more than 0.2 s and was killed"),
        ((sys.executable, "-c", "import sys; sys.exit(7)"), "ended with 7"),
    ],
)
def test_a_command_that_fails_is_told_and_ends_nothing(
    row: EpisodeRow, tmp_path: Path, caplog: pytest.LogCaptureFixture, command: tuple[str, ...], told: str
):
    quick = {"command": command, "command_timeout_s": 0.2 if "sleep" in command[-1] else 60.0}
    begun = Alerts(SETTINGS.model_copy(update=quick), tmp_path / "alerts.jsonl").look(outcomes(row, "fff"))
    assert [entry["alert"] for entry in begun] == ["collapse"]
    assert told in caplog.text


def test_a_log_that_cannot_be_written_is_named(row: EpisodeRow, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FlexorError, match=r"file/alerts\.jsonl.*choose another file"):
        Alerts(SETTINGS, tmp_path / "file" / "alerts.jsonl").look(outcomes(row, "fff"))


def test_a_command_is_a_list_of_words():
    words = load_settings(AlertSettings, None, ["command=[notify-send,robot]"]).command
    assert words == ("notify-send", "robot")
    with pytest.raises(SettingsError, match="command"):
        load_settings(AlertSettings, None, ["command=rm -rf /"])


def test_where_the_log_cannot_be_written_every_alert_is_told_to_the_command_all_the_same(
    row: EpisodeRow, tmp_path: Path
):
    heard, log = tmp_path / "heard", tmp_path / "alerts.jsonl"
    program = f"import sys; open({str(heard)!r}, 'a').write(sys.stdin.read() + '\\n')"
    alerts = Alerts(SETTINGS.model_copy(update={"command": (sys.executable, "-c", program)}), log)
    log.mkdir()  # as good as a disk without room
    with pytest.raises(FlexorError, match="an alert cannot be written"):
        alerts.look(replace(outcomes(row, "ffff"), disk_free=0))
    told = [json.loads(line)["alert"] for line in heard.read_text().splitlines()]
    assert sorted(told) == ["collapse", "disk_low", "success_low"]
