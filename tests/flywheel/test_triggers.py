"""When the flywheel acts: once an onset, on numbers that are written down, the same after a restart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flexor.flywheel.triggers.settings import TriggerSettings
from flexor.flywheel.triggers.trigger_event import TriggerEvent
from flexor.flywheel.triggers.triggers import Triggers
from flexor.runtime.episodes.index_row import EpisodeRow
from flexor.runtime.inference.calibration import Calibration, Scoring
from flexor.runtime.inference.conformal import Threshold
from flexor.settings import SettingsError, load_settings

BEGAN = datetime(2026, 3, 1, 10, tzinfo=UTC)
BUNDLE = "nano@" + "0" * 12
OUTCOMES = {"s": "success", "f": "failure", "a": "abort", "u": "unknown", "h": "success"}


def episodes(story: str, adapter: str = "base", after: int = 0, **more: object) -> list[EpisodeRow]:
    """An episode a letter of OUTCOMES, one a minute; h is a success in which somebody helped."""
    rows = []
    for at, letter in enumerate(story, after):
        values: dict[str, object] = {
            **{"id": f"e{at:04d}", "file": f"episodes/e{at:04d}.mcap"},
            **{"started": (BEGAN + timedelta(minutes=at)).isoformat(timespec="microseconds"), "duration_s": 5.0},
            **{"robot": "sim:tabletop", "task": "t", "prompt": "p", "seed": str(at), "bundle": BUNDLE},
            **{"adapter": adapter, "hz": 20.0, "outcome": OUTCOMES[letter], "label": None, "source": "sim"},
            **{"recovered": False, "steps": 100, "frames": 20, "chunks": 20, "events": 0},
            **{"interventions": 40 if letter == "h" else 0, "accel_mean": None, "accel_max": None},
            **{"entropy_bits_mean": 1.0, "entropy_bits_max": 1.5, "calibrated_max": None, "alarm_step": None},
            "bytes": 1000,
        }
        rows.append(EpisodeRow(**{**values, **more}))  # type: ignore[arg-type]
    return rows


def settings(*overrides: str) -> TriggerSettings:
    return load_settings(TriggerSettings, None, ["thresholds.entropy.unit=bits", *overrides])


def live(root: Path, rows: Sequence[EpisodeRow], *overrides: str, calibration: Calibration | None = None):
    """Look after every episode, each time as a new process would; the decisions by the number of episodes."""
    found: dict[int, list[TriggerEvent]] = {}
    for count in range(1, len(rows) + 1):
        triggers = Triggers(root, settings(*overrides), calibration)
        if events := triggers.look(rows[:count], BEGAN + timedelta(minutes=count)):
            found[count] = events
    return found


def of(found: dict[int, list[TriggerEvent]], trigger: str) -> list[tuple[int, str]]:
    return [(count, event.kind) for count, events in found.items() for event in events if event.trigger == trigger]


def calibration(adapter: str = "base", tau: float = 1.0) -> Calibration:
    scoring = Scoring(
        "nano", "0" * 64, adapter, "fp32", 10, 1.0, 8, 0.03, 1, "sim:tabletop", "real time, splice prefix"
    )
    return Calibration(scoring, 0.1, ("t",), ("e",), {"ace_bits": Threshold(tau)}, {}, "2026-03-01T00:00:00+00:00")


def test_the_seeds_numbers_are_the_defaults():
    thresholds = TriggerSettings().thresholds
    assert (thresholds.success_rate.trigger_threshold, thresholds.success_rate.window) == (0.90, 50)
    assert (thresholds.entropy.trigger_threshold, thresholds.consecutive_failures.trigger_threshold) == (2.0, 3)
    assert TriggerSettings().publish.every is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("thresholds.success_rate.trigger_threshold=0", "no success rate is below 0"),
        ("thresholds.success_rate.window=10", "a window of 10 episodes never holds min_fill = 20"),
        ("thresholds.entropy.trigger_threshold=3", "3 bits are never passed with 8 samples"),
        ("publish.every=0 steps", 'expected e.g. "500 steps"'),
        ("publish.every=2 fortnights", 'expected e.g. "500 steps"'),
        ("publish.evry=2 steps", "did you mean 'publish.every'"),
    ],
)
def test_what_can_never_fire_is_refused_with_the_way_out(override: str, said: str):
    with pytest.raises(SettingsError, match=said):
        settings(override)
    assert settings("thresholds.entropy.samples=16", "thresholds.entropy.trigger_threshold=3")


def test_a_low_success_rate_fires_once_when_the_window_is_filled_enough_and_tells_its_numbers(tmp_path: Path):
    found = live(tmp_path, episodes("sf" * 12))
    assert of(found, "success_rate") == [(20, "fired")]
    (event,) = [event for event in found[20] if event.trigger == "success_rate"]
    assert event.action == "fine_tune"
    assert {key: event.numbers[key] for key in ("successes", "n", "success_rate", "threshold", "window")} == {
        **{"successes": 10, "n": 20, "success_rate": 0.5, "threshold": 0.9, "window": 50}
    }
    low, high = event.numbers["ci95"]
    assert 0.29 < low < 0.5 < high < 0.71  # Wilson's for 10 of 20: 0.299 to 0.701
    assert (event.numbers["first"], event.numbers["last"]) == ("e0000", "e0019")
    line = json.loads((tmp_path / "triggers.jsonl").read_text().splitlines()[0])
    assert (line["trigger"], line["action"], line["numbers"]["n"]) == ("success_rate", "fine_tune", 20)


def test_exactly_the_threshold_does_not_fire(tmp_path: Path):
    assert of(live(tmp_path, episodes("s" * 18 + "ff")), "success_rate") == []


def test_it_is_armed_again_by_recovery_and_not_by_going_up_and_down_around_the_threshold(tmp_path: Path):
    quick = ("thresholds.success_rate.window=20", "thresholds.success_rate.hysteresis=0.05")
    story = "fff" + "s" * 17 + "ss" + "s" + "f" * 3
    found = live(tmp_path, episodes(story), *quick)
    # 17 of 20 fires; 19 of 20 (0.95) two failures later arms it; the third failure after that takes it to 17 again.
    assert of(found, "success_rate") == [(20, "fired"), (22, "cleared"), (26, "fired")]


def test_another_adapter_begins_with_a_window_of_its_own(tmp_path: Path):
    rows = [*episodes("f" * 20), *episodes("s" * 19, "a2", 20), *episodes("ff" + "f" * 20, "a3", 39)]
    found = live(tmp_path, rows)
    fired = [(count, found[count][-1].policy) for count, _ in of(found, "success_rate")]
    assert fired == [(20, f"{BUNDLE}/base"), (59, f"{BUNDLE}/a3")]


def test_without_any_change_it_fires_again_after_a_whole_window(tmp_path: Path):
    found = live(tmp_path, episodes("f" * 45), "thresholds.success_rate.window=20")
    assert of(found, "success_rate") == [(20, "fired"), (40, "fired")]


def test_an_abort_and_an_unknown_end_are_no_judgement_and_a_success_with_help_is_none_of_the_policy(tmp_path: Path):
    found = live(tmp_path, episodes("fahuf" + "s" + "ffff"))
    assert of(found, "consecutive_failures") == [(5, "fired"), (6, "cleared"), (9, "fired")]
    assert found[5][0].action == "correct"
    assert found[5][0].numbers["failures"] == 3


def test_rescued_failures_do_not_make_the_others_look_better_than_the_policy_is(tmp_path: Path):
    found = live(tmp_path, episodes("sshss" * 5))  # left out, they would leave 20 of 20
    assert of(found, "success_rate") == [(20, "fired")]
    (event,) = [event for event in found[20] if event.trigger == "success_rate"]
    assert event.numbers["success_rate"] == 0.8


def test_nobody_judges_is_named_once(tmp_path: Path):
    found = live(tmp_path, episodes("u" * 25))
    assert of(found, "success_rate") == [(20, "unable")]
    assert "flexor run --operator" in found[20][0].why


def test_a_later_label_counts(tmp_path: Path):
    triggers = Triggers(tmp_path, settings())
    assert triggers.look(episodes("ffs"), BEGAN) == []
    (event,) = triggers.look(episodes("fff"), BEGAN)
    assert event.trigger == "consecutive_failures"
    assert triggers.standing(BUNDLE, "base") == {"consecutive_failures"}
    (event,) = triggers.look(episodes("ffs"), BEGAN)
    assert (event.kind, triggers.standing(BUNDLE, "base")) == ("cleared", set())


def test_an_episode_above_the_calibrated_threshold_is_flagged_once_with_its_priority(tmp_path: Path):
    rows = episodes("sss", calibrated_max=1.9) + episodes("f", after=3, calibrated_max=2.4, alarm_step=30)
    found = live(
        tmp_path, [*rows, *episodes("s", after=4)], "thresholds.entropy.unit=calibrated", calibration=calibration()
    )
    assert of(found, "entropy") == [(4, "fired")]
    numbers = found[4][0].numbers
    assert (numbers["episode"], numbers["score"], numbers["priority"]) == ("e0003", 2.4, 2.4 / 2.0 + 1.0)
    assert numbers["calibration"] == calibration().id


def test_raw_bits_flag_only_where_that_was_asked_for(tmp_path: Path):
    rows = [*episodes("s"), *episodes("s", "a2", 1, entropy_bits_max=2.5)]
    assert of(live(tmp_path, rows), "entropy") == [(2, "fired")]


def test_a_calibration_of_another_adapter_is_named_and_not_used(tmp_path: Path):
    rows = episodes("ss", "a2", calibrated_max=9.0)
    found = live(tmp_path, rows, "thresholds.entropy.unit=calibrated", calibration=calibration("base"))
    assert of(found, "entropy") == [(1, "unable")]
    assert f"is of {BUNDLE}/base, not of {BUNDLE}/a2: it is not used" in found[1][0].why


def test_a_threshold_beyond_what_the_samples_can_reach_and_no_calibration_at_all_are_named(tmp_path: Path):
    calibrated = ("thresholds.entropy.unit=calibrated",)
    found = live(tmp_path / "none", episodes("ss"), *calibrated)
    assert of(found, "entropy") == [(1, "unable")]
    assert "flexor run --calibrate" in found[1][0].why
    far = live(tmp_path / "far", episodes("s"), *calibrated, "thresholds.entropy.trigger_threshold=2.2",
               calibration=calibration(tau=2.8))  # fmt: skip
    assert of(far, "entropy") == [(1, "unable")]
    assert far[1][0].numbers["ceiling"] == pytest.approx(2.0 * math.log2(8) / 2.8)


@pytest.mark.parametrize(
    ("every", "due"), [("4 episodes", [5, 9]), ("3 minutes", [4, 7, 10]), ("250 steps", [4, 7, 10])]
)
def test_a_period_is_counted_from_the_first_look_and_from_each_publication(tmp_path: Path, every: str, due: list[int]):
    rows, fired = episodes("s" * 10), []
    for count in range(1, 11):
        triggers = Triggers(tmp_path, settings(f"publish.every={every}"))
        events = triggers.look(rows[:count], BEGAN + timedelta(minutes=count), steps=100 * count)
        fired += [count for event in events if event.action == "publish"]
    assert fired == due
    at = [(BEGAN + timedelta(minutes=due[-1], seconds=seconds)).isoformat() for seconds in (0, 1)]
    assert [Triggers(tmp_path, settings()).fired_since("publish", since) for since in at] == [True, False]


def test_nothing_is_published_while_nothing_is_learned_and_a_new_learner_counts_from_0(tmp_path: Path):
    rows = episodes("s" * 9)

    def due(count: int, every: str, steps: int) -> bool:
        triggers = Triggers(tmp_path, settings(f"publish.every={every}"))
        events = triggers.look(rows[:count], BEGAN, steps=steps)
        return any(event.action == "publish" for event in events)

    assert not due(1, "2 episodes", 700)
    assert not due(4, "2 episodes", 700)
    assert due(5, "2 episodes", 701)
    assert not due(6, "50 steps", 40)  # a learner that began anew
    assert due(7, "50 steps", 60)


def test_a_torn_last_line_is_no_decision_and_the_next_one_is_whole(tmp_path: Path):
    triggers, log = Triggers(tmp_path, settings()), tmp_path / "triggers.jsonl"
    triggers.look(episodes("fff"), BEGAN)
    log.write_bytes(log.read_bytes()[:-40])
    (again,) = triggers.look(episodes("fff"), BEGAN)
    assert again.trigger == "consecutive_failures"
    assert Triggers(tmp_path, settings()).look(episodes("ffff"), BEGAN) == []


def test_the_same_evidence_gives_the_same_decisions(tmp_path: Path):
    rows = episodes("sfffsssfff" * 5)
    one, other = live(tmp_path / "one", rows), live(tmp_path / "other", rows)
    assert one == other
    assert (tmp_path / "one" / "triggers.jsonl").read_bytes() == (tmp_path / "other" / "triggers.jsonl").read_bytes()
